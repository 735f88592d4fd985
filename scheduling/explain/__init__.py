"""Reasons: why a task is where it is, why it waits, when it will start."""
