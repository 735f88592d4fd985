"""What is replayed, and the report."""
