"""Rows become a trained network."""
