"""Vectors of parameters: their bytes and digests, and sums of them that are exact."""
