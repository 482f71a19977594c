"""Numbers become something to read."""
