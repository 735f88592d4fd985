"""Changes to every region."""
