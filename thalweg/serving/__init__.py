"""Models near their callers: versions that are declared, fetched, tried and served, and the choice among servers."""
