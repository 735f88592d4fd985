"""How soon a command answers."""
