"""From request to assignment."""
