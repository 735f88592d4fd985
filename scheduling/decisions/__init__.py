"""What follows from what arrived: requests, reports, orders, silence and a plan become rows of the ledger."""
