"""What client and daemon say to each other; shared by both. PROTOCOL.md is the document."""
