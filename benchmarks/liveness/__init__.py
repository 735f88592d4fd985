"""Silence, judged from gaps."""
