"""Versioned state: stamps, merge, digests and the Delta tables."""
