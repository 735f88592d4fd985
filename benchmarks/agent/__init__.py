"""The regional side."""
