"""Other tools' formats, out and in."""
