"""Learning across regions as values: vectors, codecs, aggregates, privacy, rounds. No broker, no disk, no clock."""
