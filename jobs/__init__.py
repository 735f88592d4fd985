"""One file, one Spark application entry."""
