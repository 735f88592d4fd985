"""What particular tables hold and how they are brought up to date and read."""
