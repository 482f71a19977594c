"""Strings become tokens."""
