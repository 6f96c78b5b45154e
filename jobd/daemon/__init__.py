"""The daemon: puts the parts together, runs the loop, meets the operating system."""
