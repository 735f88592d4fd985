"""A stack of its own under load and in trouble, and an audit of what was left of it."""
