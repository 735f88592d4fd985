"""Differential privacy of participants: clipping, noise, and what has been spent."""
