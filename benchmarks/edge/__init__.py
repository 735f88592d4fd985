"""What preparing telemetry at the edge saves."""
