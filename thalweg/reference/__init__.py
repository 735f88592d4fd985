"""Generates the reference pages from what the code declares."""
