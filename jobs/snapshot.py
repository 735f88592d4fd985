"""Make the snapshot of the world: the last one, and the ledger's rows since. The place job runs it when it is time.

Anybody may run it at any time: it reads the ledger, claims nothing, and replaces one file at once.
"""

import os

from deltalake import DeltaTable

from thalweg.conf.settings import Settings
from thalweg.jobs.placement.recovery import follow, keep_snapshot
from thalweg.jobs.runtime.job import job_main
from thalweg.sync.clock import system_clock
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.store import table_uri
from thalweg.sync.ledger.reading import LedgerVersion


def run(settings: Settings) -> None:
    """Make one."""
    os.nice(settings.place.snapshot_niceness)
    warehouse = settings.warehouse.path
    uri = table_uri(warehouse, DECISIONS.name)
    if not DeltaTable.is_deltatable(uri):
        return
    ledger = LedgerVersion(DeltaTable(uri))
    keep_snapshot(warehouse, follow(warehouse, ledger, {}, system_clock()), ledger)


if __name__ == "__main__":
    job_main(run, __doc__ or "", needs_broker=False)
