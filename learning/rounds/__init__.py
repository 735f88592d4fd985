"""Rounds as a state machine: what is said is judged, what is judged is a fact, and the facts are the state."""
