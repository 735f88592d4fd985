"""Looking again at what runs: what should move, and whether a move still stands when its turn comes."""
