"""What the host has, what runs hold of it, and what it has free right now."""
