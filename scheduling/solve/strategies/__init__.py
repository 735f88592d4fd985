"""The strategies by name: each a function from a problem to a plan, its bound and why it stopped."""
