"""What people touch: command line, client, local stack, regional agent."""
