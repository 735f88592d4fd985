"""Questions to the tables, without a JVM."""
