"""Room that is kept for gangs: without it, whoever needs little takes every GPU that becomes free, one by one.

A gang that fits nowhere gets the pool where it can start first, as far as is known how long those who run there hold
their places. Until then that pool takes only those who will have left by then, those for whom there is room beside the
gang, and those who rank above it (EASY backfilling, Lifka 1995, by rank). So nobody below a gang delays it. Nothing is
remembered from plan to plan: a reservation follows from what runs and waits, and what it lets pass leaves its start
where it was.

The longest wait is a promise about the order, and the order makes no room. So a gang that would break it, were it to
start where it can start first, comes before all others here, and nobody passes it.
"""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import numpy as np

from thalweg.scheduling.arrays import FloatArray
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.pool_ends import PoolEnds
from thalweg.scheduling.world.hold import as_requested
from thalweg.scheduling.world.value import HOUR_MS, OVERDUE, RankRule
from thalweg.scheduling.world.waiting import KeptRoom, Turn
from thalweg.scheduling.world.world import World

MOST_RESERVED: Final = 8
"""Gangs for which room is kept at once: each keeps GPUs from others for a while."""
MOST_LOOKED: Final = 8
"""Pools that are looked at for one gang, those with the most free GPUs first."""
PROMISE_IN_SIGHT: Final = 0.5
"""Share of the longest wait after which it is looked whether a gang can still start within the rest of it."""
PROMISE_AT_RISK: Final = 0.9
"""Share of the longest wait by which it has to start: what is let in meanwhile may put its start off once more."""
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


def reservations(
    world: World, free_gpus: FloatArray, now_ms: int, rule: RankRule, ends: PoolEnds | None = None
) -> tuple[Reservation, ...]:
    """Find room for the highest-ranked gangs that fit nowhere now, one in each pool at most.

    What is kept for one counts as taken for those that rank below it: else a gang that would fit there, and may not go
    there, has nothing kept for itself anywhere.

    Args:
        world: what waits and what runs.
        free_gpus: [P] free now.
        now_ms: the moment.
        rule: of the ranks.
        ends: of those who run, where they are known already.
    """
    open_gpus = free_gpus.astype(np.float64)
    rooms = _Rooms(world, free_gpus, PoolEnds(world, now_ms) if ends is None else ends)
    found: dict[int, Reservation] = {}

    def keep(one: Reservation) -> None:
        found[one.pool] = one
        open_gpus[one.pool] = min(open_gpus[one.pool], one.spare_gpus)

    promised = set[int]()
    for turn in world.waiting.gangs(open_gpus, now_ms, rule, waited_ms=rule.longest_wait_ms * PROMISE_IN_SIGHT):
        first = rooms.first(turn, found)
        if first is not None and len(found) < MOST_RESERVED:
            waits_ms = now_ms - turn.waiting.oldest_ms + first.starts_in_h * HOUR_MS
            if waits_ms >= rule.longest_wait_ms * PROMISE_AT_RISK:
                keep(replace(first, rank=max(first.rank, OVERDUE)))
                promised.add(turn.waiting.index)
    for turn in islice(world.waiting.gangs(open_gpus, now_ms, rule), MOST_RESERVED):
        if turn.waiting.index not in promised and len(found) < MOST_RESERVED:
            first = rooms.first(turn, found)
            if first is not None:
                keep(first)
    return tuple(found.values())


class _Rooms:
    """Where gangs can start first."""

    def __init__(self, world: World, free_gpus: FloatArray, ends: PoolEnds) -> None:
        self._world, self._free_gpus, self._ends = world, free_gpus, ends

    def first(self, turn: Turn, taken: Collection[int]) -> Reservation | None:
        """Find the pool, of those that are kept for nobody yet; None where no end makes room."""
        free, gpus = self._free_gpus, turn.waiting.key.spec.gpus
        usable = np.flatnonzero(self._world.usable_pools(turn.waiting.key))
        usable = usable[[pool not in taken for pool in usable.tolist()]] if usable.size else usable
        first: Reservation | None = None
        for pool in usable[np.argsort(-free[usable], kind="stable")][:MOST_LOOKED].tolist():
            ends, back = self._ends.of(pool)
            short = gpus - float(free[pool])
            at = bisect_left(back, short - _SLACK)
            if at < len(ends) and (first is None or ends[at] < first.starts_in_h):
                (task_id,) = self._world.waiting.first(turn.waiting, 1)
                first = Reservation(
                    pool=pool,
                    task_id=task_id,
                    rank=turn.rank,
                    starts_in_h=ends[at],
                    spare_gpus=back[at] - short,
                )
        return first


def kept_room(kept: Sequence[Reservation], pools: int) -> KeptRoom | None:
    """Lay reservations out by pool; None where there are none."""
    if not kept:
        return None
    room = KeptRoom(np.zeros(pools), np.full(pools, np.inf), np.zeros(pools))
    for one in kept:
        room.rank[one.pool], room.starts_in_h[one.pool] = one.rank, one.starts_in_h
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
                or (demand.rank is not None and demand.rank >= one.rank)
            )
            if passes:
                continue
            if gpus * len(demand.tasks) <= spare[one.pool] + _SLACK:
                spare[one.pool] -= gpus * len(demand.tasks)
            else:
                closed.add(one.pool)
        made[row] = replace(demand, closed=frozenset(closed))
    return [made[row] for row in range(len(demands))]
