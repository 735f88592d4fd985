"""Forecasts from the tables or a job list to a file, tried on what came later; and their reasons."""
