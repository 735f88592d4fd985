"""A snapshot taken at any point of any life, and the rows since, lead to the world that all rows lead to.

Equal in everything that decides: what tasks are and where, who waits in which order, what nodes and tenants hold, who
is avoided until when, in which order nodes and pools are known, which requests were taken.
"""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from tests.properties.world_histories import LIMITED, History, picture
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.world.world import World
from thalweg.streams.placement.task_specs import read_spec
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.store import open_or_create, table_uri
from thalweg.sync.ledger.follower import Follower
from thalweg.sync.ledger.reading import LedgerVersion
from thalweg.sync.ledger.snapshot import decode_snapshot, encode_snapshot, write_snapshot

NOW_MS = 5_000_000


def everything(world: World) -> dict[str, object]:
    """What decides, in the order in which it decides."""
    occupancy = world.occupancy
    return picture(world) | {
        "queue": [
            (waiting.key, world.waiting.first(waiting, len(waiting)), waiting.oldest_order, waiting.oldest_ms)
            for waiting in world.waiting.classes()
        ],
        "live": list(world.tasks),
        "order": world.book.order,
        "expected": list(world.regions),
        "names": world.geography.names,
        "pools in order": world.nodes.pools,
        "nodes in order": [
            (key, pool, np.trim_zeros(free, "b").tolist(), cpu, memory)
            for key, pool, free, cpu, memory in zip(
                world.nodes.ids,
                world.nodes.pool.tolist(),
                world.nodes.gpu_milli_free,
                world.nodes.cpu_milli_free.tolist(),
                world.nodes.memory_mib_free.tolist(),
                strict=True,
            )
        ],
        "all of the occupancy": sorted(
            (occupancy.owner(row), occupancy.entry(row)) for row, used in enumerate(occupancy.used().tolist()) if used
        ),
        "ends": sorted(world.back_offs.ends),
        "requests": {name: task.request for name, task in world.tasks.items()},
    }


def followed(history: History, batches: list[pa.Table]) -> Follower:
    follower = Follower(world=World(), spec_of=read_spec, now_ms=NOW_MS)
    follower.world.set_tenants(LIMITED)
    for batch in batches:
        follower.follow(batch)
    return follower


def lived(seed: int, batches: int) -> History:
    history = History(seed)
    for number in range(batches):
        history.batch()
        if number % 5 == 4:
            history.kill()
    return history


def ledger_of(folder: Path, batches: list[pa.Table]) -> LedgerVersion:
    """A ledger of these batches, each a file, some of them merged."""
    open_or_create(DECISIONS, str(folder))
    uri = table_uri(str(folder), DECISIONS.name)
    for batch in batches:
        if batch.num_rows:
            write_deltalake(uri, batch, mode="append")
    return LedgerVersion(DeltaTable(uri))


@pytest.mark.parametrize("seed", range(40))
def test_a_snapshot_at_any_point_and_the_rows_since_are_all_the_rows(seed: int) -> None:
    history = lived(seed, 3 + seed % 20)
    whole = followed(history, history.batches)
    expected = everything(whole.world)
    cut = random.Random(seed).randint(0, len(history.batches))
    follower = followed(history, history.batches[:cut])
    mark = follower.snapshot(NEVER_READ)
    if mark is None:
        return
    again = Follower._of_snapshot(decode_snapshot(encode_snapshot(mark)), pa.table({}), read_spec, NOW_MS, LIMITED)
    assert everything(again.world) == everything(follower.world), "what was written is what is read"
    for batch in history.batches[cut:]:
        again.follow(batch)
    assert everything(again.world) == expected
    assert (again.rows, again.position, again.reach) == (whole.rows, whole.position, whole.reach)


@pytest.mark.parametrize("seed", range(8))
def test_snapshot_after_snapshot_of_a_real_ledger_the_plan_is_the_same(seed: int, tmp_path: Path) -> None:
    history = lived(seed, 12)
    for cut in (3, 6, 9):
        ledger = ledger_of(tmp_path, history.batches[cut - 3 : cut])
        snapshot = Follower.of(str(tmp_path), ledger, read_spec, NOW_MS, tenants=LIMITED).snapshot(ledger)
        if snapshot is not None:
            write_snapshot(str(tmp_path), snapshot)
    ledger = ledger_of(tmp_path, history.batches[9:])
    again = Follower.of(str(tmp_path), ledger, read_spec, NOW_MS, tenants=LIMITED)
    assert again.unused is None
    assert again.read < again.rows
    whole = followed(history, history.batches)
    assert everything(again.world) == everything(whole.world)
    plans = []
    for world in (again.world, whole.world):
        live, history.world = history.world, world
        for region in sorted(history.heard):
            world.hear(region, NOW_MS)
        history.tell_world()
        history.world, history.rows = live, []
        plans.append(plan(world, PlanSettings(resize_every_ms=5_000, most_preempted=4), NOW_MS, 0))
    if plans[0] is not None and plans[1] is not None:
        assert plans[0] == plans[1]
    else:
        assert plans[0] is plans[1]


class _NeverRead:
    """Stands for a ledger that nobody reads."""

    ledger_id = "here"
    version = 7


NEVER_READ: LedgerVersion = _NeverRead()  # type: ignore[assignment]
