"""GPUs onto nodes, against published results."""
