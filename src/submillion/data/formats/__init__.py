"""Reads the file formats that people bring, one module for each format."""
