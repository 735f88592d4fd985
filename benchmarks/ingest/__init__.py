"""Telemetry into Delta: freshness, and a backlog."""
