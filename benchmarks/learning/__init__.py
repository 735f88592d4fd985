"""Federated learning: accuracy, bytes, liars, privacy, virtual time, and a thousand planned deaths."""
