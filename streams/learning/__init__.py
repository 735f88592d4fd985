"""Learning's messages: what participants say, runs as they are, and the store of what is too large for a message."""
