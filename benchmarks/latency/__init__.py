"""Request to assignment."""
