"""Models made small for the edge: fewer parts, weights of eight bits, and a gate that refuses what lost too much."""
