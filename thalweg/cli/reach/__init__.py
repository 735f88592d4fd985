"""What commands reach for: the broker, a topic, the tables, a record that is gone on with."""
