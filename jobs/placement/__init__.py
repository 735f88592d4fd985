"""What `place` decides: a batch folded into the world, planned, and said; and the tables that follow the ledger."""
