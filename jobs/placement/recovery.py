"""The world at a start: what the ledger's snapshot and the rows after it lead to, or all of its rows."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from thalweg.conf.readiness import announce_progress
from thalweg.jobs.runtime.garbage import without_collections
from thalweg.scheduling.counted import counted
from thalweg.scheduling.world.facts import TenantLimits
from thalweg.scheduling.world.world import World
from thalweg.streams.placement.task_specs import read_spec
from thalweg.sync.ledger.follower import Follower
from thalweg.sync.ledger.ledger import Ledger
from thalweg.sync.ledger.reading import LedgerVersion
from thalweg.sync.ledger.snapshot import write_snapshot

WORTH_A_SNAPSHOT: Final = 50_000
"""Rows: who had to read more makes the next start shorter at once, not after the next hundred thousand."""

log = logging.getLogger("thalweg.place")


def recover(
    ledger: Ledger,
    warehouse: str,
    tenants: Mapping[str, TenantLimits],
    now_ms: int,
    followed: Follower | None = None,
    behind: Callable[[int], None] = lambda _: None,
) -> World:
    """Make the world that a ledger leads to; what the tables say of places is learned by the first batch.

    Args:
        ledger: claimed, so that nobody adds to it.
        warehouse: where the snapshot lies.
        tenants: who may hold only so much.
        now_ms: the moment at which regions are expected from.
        followed: what a standby has followed of this ledger.
        behind: told how many rows had to be followed, where no snapshot has been made of them since.
    """
    began = time.perf_counter()
    now = ledger.now()
    is_followed = followed is not None and followed.catch_up(now)
    follower = followed if followed is not None and is_followed else follow(warehouse, now, tenants, now_ms)
    ledger.taken.reach = follower.reach
    if follower.last_batch is not None:
        ledger.last_batch = follower.last_batch
    world = follower.world
    if follower.unused is not None and follower.read >= WORTH_A_SNAPSHOT:
        keep_snapshot(warehouse, follower, now)
    else:
        behind(follower.read)
    log.info(
        "world rebuilt",
        extra={
            "fields": {
                "tasks": len(world.tasks),
                "rows": follower.rows,
                "rows_read": follower.read,
                "seconds": round(time.perf_counter() - began, 2),
            }
        },
    )
    return world


def follow(warehouse: str, ledger: LedgerVersion, tenants: Mapping[str, TenantLimits], now_ms: int) -> Follower:
    """Follow a ledger up to a version, and say where its snapshot was of no use."""
    with without_collections():
        follower = Follower.of(
            warehouse,
            ledger,
            read_spec,
            now_ms,
            tenants=tenants,
            progress=lambda rows: announce_progress(f"place: {counted(rows, 'row')} of the ledger read"),
        )
    if follower.unused is not None and follower.rows:
        log.warning(
            f"the snapshot of the world is not used, because {follower.unused}; the whole ledger was read",
            extra={"fields": {"rows": follower.rows}},
        )
    return follower


def keep_snapshot(warehouse: str, follower: Follower, ledger: LedgerVersion) -> None:
    """Write the snapshot of what was followed; a disk that does not take it is a longer start, and nothing else."""
    began = time.perf_counter()
    snapshot = follower.snapshot(ledger)
    if snapshot is None:
        return
    try:
        size = write_snapshot(warehouse, snapshot)
    except OSError as error:
        log.error(f"no snapshot of the world was written: {error}")
        return
    fields = {
        "rows": snapshot.mark.rows,
        "tasks": len(snapshot.image.tasks),
        "ended": len(snapshot.image.ended.state),
        "bytes": size,
        "rows_read": follower.read,
        "seconds": round(time.perf_counter() - began, 2),
    }
    log.info("snapshot of the world written", extra={"fields": fields})
