"""From assignment to accepted, through eight agents."""
