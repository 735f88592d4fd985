"""Histories through policies on a virtual clock."""
