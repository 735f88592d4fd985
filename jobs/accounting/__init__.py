"""What tasks have cost, kept beside the ledger."""
