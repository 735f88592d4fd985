"""Models made small for the edge: fewer units or trees, weights of eight bits, and a gate that refuses what lost too much."""
