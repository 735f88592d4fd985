"""Telemetry in: parsed, judged, spread."""
