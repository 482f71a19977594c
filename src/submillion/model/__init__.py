"""Tokens to logits: a frozen encoder, its adapters, a head, and the budget they are held to."""
