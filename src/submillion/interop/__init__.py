"""Models in and out: the formats of other tools."""
