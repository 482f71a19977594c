"""Passes over rows, on one machine or several."""
