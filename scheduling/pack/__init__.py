"""Packing onto nodes: which node and which devices."""
