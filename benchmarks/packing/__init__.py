"""GPUs onto nodes."""
