"""The tables that follow a ledger, as the driver that wrote it would have left them.

    python -m thalweg.benchmarks.live.tables WAREHOUSE

Without them the job that is measured would fold the whole ledger first, beside its batches, as it does once in a life.
"""

import sys

from thalweg.jobs.placement.tables import PlaceTables
from thalweg.jobs.runtime.garbage import without_collections
from thalweg.jobs.runtime.job import Stop


def run(warehouse: str) -> None:
    """Fold all of it."""
    with without_collections():
        PlaceTables(warehouse, 1_000, 0, Stop()).step()


if __name__ == "__main__":
    run(sys.argv[1])
