"""What comes by the file system: dropped files, and paths that are watched."""
