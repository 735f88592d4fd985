"""The placement line in one process: the real driver and agents, seeded histories of trouble, and books that must balance."""
