"""SQL over the Delta tables, now and at a moment, exact in every type."""
