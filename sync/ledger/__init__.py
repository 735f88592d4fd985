"""The ledger: its rows, its fence, and the tables folded from it."""
