"""A saved model answers."""
