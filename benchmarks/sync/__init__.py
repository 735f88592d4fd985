"""A change of a shared record until every region has it."""
