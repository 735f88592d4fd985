"""Who would cost less elsewhere from now on, all that a move loses taken off; the greatest savings first.

A move pays where the rest of the run is cheaper by more than what is lost:

    (left + lost) · (usd_an_hour here − there)  >  lost · usd_an_hour here  +  data again  +  w_move

with the hours of work that are left, and those that would be done again. An hour counts as a plan counts it: GPUs,
round trip and the risk on spot. Room there has to be free now; the place that is left is nobody's before the next look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from thalweg.scheduling.again.proposals import CHEAPER, LookLimits, Proposal
from thalweg.scheduling.again.running import ClassBook, MovableCopies
from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.live_problem import live_problem
from thalweg.scheduling.live.whole_pools import whole_pools
from thalweg.scheduling.problem.cost import arc_costs
from thalweg.scheduling.problem.model import GPUS, Problem
from thalweg.scheduling.world.value import RankRule
from thalweg.scheduling.world.world import World

MOST_CLASSES: Final = 2_048
"""Classes that one look prices, those of which most copies run: 2,048 times 120 pools take a tenth of a second."""
MOST_TARGETS: Final = 6
"""Pools that are looked at for each class: the cheapest with room. Where six are full, the next look sees the next."""
LEAST_SHARE: Final = 0.01
"""A move saves at least this share of what is left to pay: expectations are not better than that."""
_ENOUGH: Final = 8
"""Candidates for each move that may be made: some of them compete for the same room."""
_SLACK: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class _Priced(Demand):
    """A class that runs: nothing of it waits, so there is no price of its waiting to compute, a third of a look."""

    def wait_usd(self, now_ms: int, base_usd: float, rule: RankRule) -> float:
        """Count nothing."""
        return 0.0


def cheaper_places(
    world: World,
    running: MovableCopies,
    book: ClassBook,
    stuck: Sequence[Demand],
    settings: PlanSettings,
    limits: LookLimits,
    now_ms: int,
    *,
    most: int,
    without: frozenset[TaskId] = frozenset(),
) -> list[Proposal]:
    """Choose the moves that save most.

    Args:
        world: as it is.
        running: who may move.
        book: their classes.
        stuck: who waits: no move takes room that they could use, but for such room.
        settings: weights and prices.
        limits: of the look.
        now_ms: the moment.
        most: moves at most.
        without: tasks that move already.
    """
    if not len(running) or most <= 0:
        return []
    kinds, kind = _priced(running)
    demands = [
        _Priced(key=book.keys[number], tasks=(TaskId("?"),), order=at, since_ms=now_ms)
        for at, number in enumerate(kinds.tolist())
    ]
    free = world.pools()
    problem = live_problem(world, demands, settings, now_ms, whole_pools(world, free))
    hourly, again = _by_hour(problem)
    at = np.flatnonzero((kind >= 0) & (running.left_h > 0))
    at = at[np.isfinite(hourly[kind[at], running.pool[at]])]
    if not at.size:
        return []
    room: BoolArray = np.asarray(
        (problem.classes.need[:, None, :] <= free.capacity[None, :, :] * (1 + _SLACK)).all(axis=2), bool
    )
    target = np.argsort(np.where(room, hourly, np.inf), axis=1, kind="stable")[:, :MOST_TARGETS]
    saving, lost, there = _savings(running, at, kind, hourly, again, room, target, settings, _kept_for(world, stuck))
    best = np.argsort(-saving, axis=None, kind="stable")[: _ENOUGH * most + saving.shape[1]]
    best = best[saving.ravel()[best] > 0]
    who, which = np.divmod(best, saving.shape[1])
    in_turn = np.lexsort((there[who, which], running.order[at[who]], -saving[who, which]))
    chosen: list[Proposal] = []
    left, taken = free.capacity.copy(), set(without)
    for turn in in_turn.tolist():
        copy, column = int(who[turn]), int(which[turn])
        row, pool = int(at[copy]), int(there[copy, column])
        held = world.occupancy.owner(int(running.row[row]))
        need = problem.classes.need[kind[row]]
        if held[0] in taken or (need > left[pool] * (1 + _SLACK)).any():
            continue
        left[pool] -= need
        taken.add(held[0])
        price = problem.pools.usd_per_gpu_hour
        chosen.append(
            Proposal(
                held=held,
                assigned_ms=int(world.occupancy.column("assigned_ms")[running.row[row]]),
                to=world.nodes.pools[pool],
                why=CHEAPER,
                run=running.run(row),
                saving_usd=float(saving[copy, column]),
                lost_usd=float(lost[copy, column]),
                usd_per_gpu_hour=(float(price[running.pool[row]]), float(price[pool])),
            )
        )
        if len(chosen) == most:
            break
    return chosen


def _priced(running: MovableCopies) -> tuple[IntArray, IntArray]:
    """Classes that are priced, and for each copy which of them it is; -1 where none."""
    kinds, kind, count = np.unique(running.kind, return_inverse=True, return_counts=True)
    if len(kinds) <= MOST_CLASSES:
        return kinds, kind.astype(np.int64)
    kept = np.sort(np.argsort(-count, kind="stable")[:MOST_CLASSES])
    number = np.full(len(kinds), -1, np.int64)
    number[kept] = np.arange(len(kept))
    return kinds[kept], number[kind]


def _by_hour(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """[C, P] US dollars an hour, inf where a class may not go; and what coming there costs once."""
    arcs, price = arc_costs(problem), problem.pools.usd_per_gpu_hour
    region, gpus = problem.pools.region, problem.classes.need[:, [GPUS]]
    again = arcs.routes.egress_usd[:, region] + arcs.routes.stall_h[:, region] * gpus * price
    return (arcs.usd - again) / problem.classes.expected_h[:, None], again


def _kept_for(world: World, stuck: Sequence[Demand]) -> BoolArray:
    """[P, P] whether a move from one pool to another would take room that somebody waits for."""
    kept = np.zeros((len(world.nodes.pools), len(world.nodes.pools)), bool)
    for demand in stuck:
        usable = world.usable_pools(demand.key)
        kept |= usable[None, :] & ~usable[:, None]
    return kept


def _savings(
    running: MovableCopies,
    at: IntArray,
    kind: IntArray,
    hourly: FloatArray,
    again: FloatArray,
    room: BoolArray,
    target: IntArray,
    settings: PlanSettings,
    kept: BoolArray,
) -> tuple[FloatArray, FloatArray, IntArray]:
    """[copies, targets] what a move saves, -inf where it does not pay; what it loses; and the pool."""
    of, pool = kind[at], running.pool[at]
    there = target[of]
    here_usd = hourly[of, pool][:, None]
    there_usd = np.take_along_axis(hourly[of], there, axis=1)
    left, lost_h = running.left_h[at][:, None], running.lost_h[at][:, None]
    may = np.take_along_axis(room[of], there, axis=1) & (there != pool[:, None]) & ~kept[pool[:, None], there]
    may &= np.isfinite(there_usd) & (there_usd < here_usd)
    lost = lost_h * here_usd + np.take_along_axis(again[of], there, axis=1) + settings.weights.move
    saving = (left + lost_h) * (here_usd - np.where(may, there_usd, 0.0)) - lost
    pays = may & (saving > LEAST_SHARE * left * here_usd)
    return np.where(pays, saving, -np.inf), lost, there
