"""Placement's messages: requests in, assignments out, and the fence of whoever acts on them."""
