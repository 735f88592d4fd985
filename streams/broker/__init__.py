"""The broker's edge: read, publish, make topics."""
