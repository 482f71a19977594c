"""Tokens become logits."""
