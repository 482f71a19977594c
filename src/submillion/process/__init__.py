"""How this process uses threads, memory, forks and the caller's settings."""
