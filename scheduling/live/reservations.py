"""Room that is kept for gangs: without it, whoever needs little takes every GPU that becomes free, one by one.

A gang that fits nowhere gets the pool where it can start first, as far as is known how long those who run there hold
their places. Until then that pool takes only those who will have left by then, those for whom there is room beside the
gang, and those who rank so far above it that they would not wait for it anyhow (EASY backfilling, Lifka 1995, by rank).
So nobody below a gang delays it. Nothing is remembered from plan to plan: a reservation follows from what runs and
waits, and what it lets pass leaves its start where it was.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Final

import numpy as np

from thalweg.scheduling.arrays import FloatArray
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.pack.nodes import GPU_MILLI
from thalweg.scheduling.world.hold import as_requested, left_h
from thalweg.scheduling.world.value import HOUR_MS, RankRule
from thalweg.scheduling.world.waiting import KeptRoom
from thalweg.scheduling.world.world import World

MOST_RESERVED: Final = 8
"""Gangs for which room is kept at once: each keeps GPUs from others for a while."""
MOST_LOOKED: Final = 8
"""Pools that are looked at for one gang, those with the most free GPUs first."""
PASSES: Final = 4.5
"""Who ranks so many times above a gang goes before it, whatever is reserved: measured, it costs gangs little and spares
the many small ones most of what gangs would cost them."""
_SLACK: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A pool that a gang will start in.

    Attributes:
        pool: index.
        task_id: the gang's.
        rank: the gang's.
        starts_in_h: until enough GPUs are expected to be free.
        spare_gpus: that will be free then beside what it needs.
    """

    pool: int
    task_id: TaskId
    rank: float
    starts_in_h: float
    spare_gpus: float


def reservations(world: World, free_gpus: FloatArray, now_ms: int, rule: RankRule) -> tuple[Reservation, ...]:
    """Find room for the highest-ranked gangs that fit nowhere now, one in each pool at most.

    What is kept for one counts as taken for those that rank below it: else a gang that would fit there, and may not go
    there, has nothing kept for itself anywhere.

    Args:
        world: what waits and what runs.
        free_gpus: [P] free now.
        now_ms: the moment.
        rule: of the ranks.
    """
    found: dict[int, Reservation] = {}
    ends_of = cache(_ends)
    open_gpus = free_gpus.astype(np.float64)
    free = open_gpus.tolist()
    for turn in islice(world.waiting.gangs(open_gpus, now_ms, rule), MOST_RESERVED):
        key, gpus = turn.waiting.key, turn.waiting.key.spec.gpus
        usable = np.flatnonzero(world.usable_pools(key))
        usable = usable[[pool not in found for pool in usable.tolist()]] if usable.size else usable
        first: Reservation | None = None
        for pool in usable[np.argsort(-free_gpus[usable], kind="stable")][:MOST_LOOKED].tolist():
            ends, back = ends_of(world, pool, now_ms)
            short = gpus - free[pool]
            at = bisect_left(back, short - _SLACK)
            if at < len(ends) and (first is None or ends[at] < first.starts_in_h):
                (task_id,) = world.waiting.first(turn.waiting, 1)
                first = Reservation(
                    pool=pool,
                    task_id=task_id,
                    rank=turn.rank,
                    starts_in_h=ends[at],
                    spare_gpus=back[at] - short,
                )
        if first is not None:
            found[first.pool] = first
            open_gpus[first.pool] = min(open_gpus[first.pool], first.spare_gpus)
    return tuple(found.values())


def _ends(world: World, pool: int, now_ms: int) -> tuple[list[float], list[float]]:
    """Hours until those who run in a pool leave, ordered, and the GPUs that they have given back by then."""
    occupancy = world.occupancy
    rows = np.flatnonzero(occupancy.column("pool") == pool)
    attained = (now_ms - occupancy.column("assigned_ms")[rows]) / HOUR_MS
    ends = left_h(occupancy.column("expected_ms")[rows] / HOUR_MS, attained)
    order = np.argsort(ends, kind="stable")
    back = np.cumsum(occupancy.column("gpu_milli")[rows][order]) / GPU_MILLI
    return ends[order].tolist(), back.tolist()


def kept_room(kept: Sequence[Reservation], pools: int) -> KeptRoom | None:
    """Lay reservations out by pool; None where there are none."""
    if not kept:
        return None
    room = KeptRoom(np.zeros(pools), np.full(pools, np.inf), np.zeros(pools))
    for one in kept:
        room.rank[one.pool], room.starts_in_h[one.pool] = one.rank * PASSES, one.starts_in_h
        room.spare_gpus[one.pool] = one.spare_gpus
    return room


def kept_free(demands: Sequence[Demand], kept: Sequence[Reservation]) -> list[Demand]:
    """Close reserved pools to those whom the gang would wait for.

    Args:
        demands: who asks, in any order.
        kept: reservations; what is beside them is handed out by rank.
    """
    if not kept:
        return list(demands)
    spare = {one.pool: one.spare_gpus for one in kept}
    made = dict[int, Demand]()
    for row in sorted(range(len(demands)), key=lambda row: (-(demands[row].rank or 0.0), demands[row].order)):
        demand = demands[row]
        gpus, hours = demand.key.spec.gpus, as_requested(demand.key.spec).hours
        closed = set[int]()
        for one in kept:
            passes = (
                one.task_id in demand.tasks
                or hours <= one.starts_in_h
                or (demand.rank is not None and demand.rank >= PASSES * one.rank)
            )
            if passes:
                continue
            if gpus * len(demand.tasks) <= spare[one.pool] + _SLACK:
                spare[one.pool] -= gpus * len(demand.tasks)
            else:
                closed.add(one.pool)
        made[row] = replace(demand, closed=frozenset(closed))
    return [made[row] for row in range(len(demands))]
