"""What `roll_out` decides: wishes and reports read as records, facts committed, what is desired told."""
