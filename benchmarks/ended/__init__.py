"""What tasks leave behind that have ended: bytes of each table, time of the commands, what retention drops."""
