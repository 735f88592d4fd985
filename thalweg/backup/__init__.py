"""A consistent copy of a stack made while it runs, and a stack made of such a copy."""
