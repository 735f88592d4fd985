"""The placement line in one process: real driver and agents, histories of trouble, and books that must balance."""
