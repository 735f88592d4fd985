"""The Kafka edge: topics, messages, parsing, rules, publishing, the fence."""
