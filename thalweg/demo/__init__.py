"""The demo: the whole system with published figures, which compares its books in the end."""
