"""Replication's messages: state in, the replica topic out."""
