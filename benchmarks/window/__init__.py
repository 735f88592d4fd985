"""The window over a million tasks: how soon it shows, finds, sorts, groups and tells, in a real browser too."""
