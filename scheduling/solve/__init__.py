"""Solvers of the global problem behind one door: a problem and a strategy's name in, a plan with its bound out."""
