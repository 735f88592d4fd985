"""Telemetry into Delta."""
