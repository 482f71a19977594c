"""Every setting: its type, its default, its origin."""
