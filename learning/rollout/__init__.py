"""Roll-outs: who gets a new version when, what its outcomes say of it, and what follows. Looked at at any time."""
