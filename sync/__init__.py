"""Versioned state: stamps, merge, digests, the Delta tables and the ledger."""
