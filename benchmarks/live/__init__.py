"""The real place job at the size of the largest peers."""
