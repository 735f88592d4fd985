"""What travels: topics, messages, envelopes, and their published contract."""
