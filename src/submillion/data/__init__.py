"""What people bring becomes checked rows."""
