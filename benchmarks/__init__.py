"""Measurements with raw results and the machine they ran on."""
