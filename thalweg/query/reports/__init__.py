"""What the tables tell of tasks, regions, money and replication, as rows and columns."""
