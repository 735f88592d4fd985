"""Versioned state as values: stamps, vectors, merge, digests. No disk, no clock."""
