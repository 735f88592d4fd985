"""A region's side: its replica and where it keeps it."""
