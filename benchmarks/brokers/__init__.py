"""Three brokers, of which one and then another is lost."""
