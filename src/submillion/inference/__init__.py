"""The object a user holds, and the commands' work as functions."""
