"""A published history through policies."""
