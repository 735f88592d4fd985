"""A second driver that stands by: it follows the ledger, holds its JVM ready, and takes over when the first is gone.

The first is gone when its lease is free, which the kernel sees to at its death, or when it has not shown for
`place.takeover_ms` that it works. Whether it really is gone does not matter: the one that takes over claims the
ledger, and from then on nothing of the other reaches the ledger, so nothing of it is published.
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from thalweg.conf.readiness import announce_progress, announce_ready
from thalweg.conf.settings import Settings
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.placement.recovery import follow
from thalweg.jobs.placement.settings import tenants_of
from thalweg.jobs.runtime.job import Stop
from thalweg.streams.broker.sources import read_pattern
from thalweg.sync.clock import Clock, steady_clock
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.lease import LeaseWatch
from thalweg.sync.delta.store import StoreError, table_uri
from thalweg.sync.ledger.follower import Follower
from thalweg.sync.ledger.reading import LedgerVersion

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

LOOK_EVERY_S: Final = 0.1
FOLLOW_EVERY_S: Final = 1.0
"""Reading what was added takes some 50 ms of a core; of what a second adds, following takes as much at the takeover."""

WARM_AT_MOST_S: Final = 30.0

log = logging.getLogger("thalweg.place")


class StandbyRefusedError(StoreError):
    """Nobody can stand by for a warehouse on an object store."""

    def __init__(self, warehouse: str) -> None:
        super().__init__(
            f"place.standby with warehouse {warehouse}: the lease by which a standby sees that the driver is gone "
            "exists on a local file system only. Let what supervises the driver start it again instead"
        )


def stand_by(
    settings: Settings, name: str, clock: Clock, stop: Stop, host: Host, make_ready: Callable[[], None] = lambda: None
) -> None:
    """Wait until it is this process's turn, and have the world at hand by then.

    Args:
        settings: everything.
        name: of the lease.
        clock: the wall clock.
        stop: ends the waiting.
        host: is given the world as far as it was followed; nothing where nobody held the lease at the beginning.
        make_ready: makes ready what a start takes long for.

    Raises:
        StandbyRefusedError: the warehouse is no local folder.
    """
    warehouse = settings.warehouse.path
    if "://" in warehouse:
        raise StandbyRefusedError(warehouse)
    watch = LeaseWatch(warehouse, name, steady_clock)
    if watch.is_free():
        return
    announce_progress("place: standing by, follows the ledger")
    make_ready()
    follower: Follower | None = None
    looked_s = -FOLLOW_EVERY_S
    while not stop.wait(LOOK_EVERY_S):
        if watch.is_free():
            log.warning("the driver is gone; taking over")
            break
        if (still_ms := watch.still_ms()) > settings.place.takeover_ms:
            log.warning(f"the driver has not shown for {still_ms} ms that it works; taking over, it is fenced")
            host.without_lease = True
            break
        if time.monotonic() - looked_s >= FOLLOW_EVERY_S:
            try:
                is_first = follower is None
                follower = followed(follower, settings, clock)
                if is_first and follower is not None:
                    announce_ready()
                    fields = {"tasks": len(follower.world.tasks), "rows": follower.rows}
                    log.info("standing by", extra={"fields": fields})
            except (OSError, DeltaError) as error:  # the next look may succeed
                log.warning(f"the ledger cannot be followed now: {error}")
            looked_s = time.monotonic()
    host.followed = follower


def followed(follower: Follower | None, settings: Settings, clock: Clock) -> Follower | None:
    """Follow what the ledger has now; None where there is no ledger yet."""
    warehouse = settings.warehouse.path
    uri = table_uri(warehouse, DECISIONS.name)
    if not DeltaTable.is_deltatable(uri):
        return None
    ledger = LedgerVersion(DeltaTable(uri))
    if follower is not None and follower.catch_up(ledger):
        return follower
    return follow(warehouse, ledger, tenants_of(settings.place), clock())


def warm(spark: "SparkSession", settings: Settings, pattern: str) -> None:
    """Let the JVM load and compile what a query needs, by a query that begins, ends a batch, and leaves nothing."""
    folder = tempfile.mkdtemp(prefix="thalweg-standby-")

    def nothing(_frame: "DataFrame", _batch_id: int) -> None:
        return

    try:
        records = read_pattern(spark, settings.kafka, pattern, max_records_per_batch=1)
        query = records.writeStream.option("checkpointLocation", folder).foreachBatch(nothing).start()
        try:
            deadline = time.monotonic() + WARM_AT_MOST_S
            while query.isActive and query.lastProgress is None and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            query.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
