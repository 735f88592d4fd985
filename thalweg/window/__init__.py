"""The window: a page and an HTTP door to everything that the tables, the ledger and the topics tell."""
