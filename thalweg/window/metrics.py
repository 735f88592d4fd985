"""What the window tells Prometheus: the figures of the page, so that what it shows red can call somebody.

`alerts/thalweg.rules.yaml` in `conf` has a rule for each; a test compares the two.
"""

from collections.abc import Mapping
from typing import Final

from prometheus_client import Counter, Gauge, generate_latest

KINDS: Final = ("ledger", "process", "regions", "digests", "gaps", "quarantine")
"""Kinds of what the overview calls unwell."""

UNWELL: Final = Gauge("thalweg_window_unwell", "1 where the page says that something of this kind is unwell.", ["kind"])
LOADED: Final = Gauge("thalweg_window_loaded", "1 where the window has read the tables, else 0.")
TASKS: Final = Gauge("thalweg_window_tasks", "Tasks by state.", ["state"])
REGIONS: Final = Gauge("thalweg_window_regions", "Regions by state: heard, silent.", ["state"])
NODES: Final = Gauge("thalweg_window_nodes", "Nodes by state: ready, draining, gone.", ["state"])
USD_PER_HOUR: Final = Gauge("thalweg_window_usd_per_hour", "What all that is placed costs, US dollars an hour.")
LISTENERS: Final = Gauge("thalweg_window_listeners", "Who follows the events.")
CHANGES: Final = Counter("thalweg_window_changes_total", "Rows of the ledger, by what they say happened.", ["change"])
for _change in ("failed", "lost"):
    CHANGES.labels(_change)  # of what is not there before its first count, Prometheus sees no increase


def shown(
    unwell: set[str],
    by_state: Mapping[str, int],
    regions: Mapping[str, int],
    nodes: Mapping[str, int],
    usd_per_hour: float,
    listeners: int,
    *,
    loaded: bool,
) -> bytes:
    """Give the page's figures in Prometheus' text format."""
    for kind in KINDS:
        UNWELL.labels(kind).set(kind in unwell)
    for gauge, figures in ((TASKS, by_state), (REGIONS, regions), (NODES, nodes)):
        gauge.clear()
        for name, number in figures.items():
            gauge.labels(name).set(number)
    LOADED.set(loaded)
    USD_PER_HOUR.set(usd_per_hour)
    LISTENERS.set(listeners)
    return generate_latest()
