"""Other systems' descriptions of work, read as requests: what can be expressed is, what cannot is said."""
