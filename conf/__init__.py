"""Settings and figures: what an operator may change, and nothing of ours imported."""
