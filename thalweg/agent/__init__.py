"""The regional agent."""
