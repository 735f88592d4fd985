"""What serving models takes: bytes of versions on their way, and answers one by one or several together."""
