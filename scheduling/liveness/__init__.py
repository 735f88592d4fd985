"""Who can be heard, and what silence and a list of tasks then say."""
