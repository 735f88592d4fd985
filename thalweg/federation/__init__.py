"""Federated learning as regions and operators use it: take part, start and stop runs, look at them, try one out."""
