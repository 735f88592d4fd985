"""Delta tables without a JVM: contracts, files, commits, upkeep."""
