"""What others must not see or pretend: signatures, masks that cancel, and keys in shares."""
