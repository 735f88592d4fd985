"""The client libraries of applications."""
