"""Flower's strategies and client apps as they are, over our topics or in one process: each reply counts once."""

import os

# Read by `flwr` when it is imported: what runs here tells nobody outside, unless somebody has asked for it.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
