"""Ends of tasks, told to web addresses."""
