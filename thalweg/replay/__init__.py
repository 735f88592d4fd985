"""Replay as people call it: traces and ledgers read into histories, and the report."""
