"""Whole runs in one process and on a virtual clock: the same referee and director, participants that train for real."""
