"""Operations that a CPU computes faster in our own code."""
