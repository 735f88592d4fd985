"""Local search on a partial plan: shift a copy to a cheaper pool, or make room for it by moving others on.

Rounding leaves holes too small for the gangs that wait. Two pools with four GPUs free each hold a gang of eight once a
gang of four moves from one to the other: a chain of one ejection, which is what this search looks for. It is compiled;
without a compiler it is left out, and plans are as good as rounding and the integer program make them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.compiled import compiled, compiles, inlined
from thalweg.scheduling.problem.cost import plan_usd
from thalweg.scheduling.problem.model import GPUS, NOWHERE, Problem
from thalweg.scheduling.solve.bound import balance_slope
from thalweg.scheduling.solve.partial_plan import PartialPlan

WAITING = -1


def improve(plan: PartialPlan, evaluations: int) -> PartialPlan:
    """Return a partial plan at least as good; the same one when nothing helps.

    Args:
        plan: not changed.
        evaluations: moves looked at before the search stops: deterministic, unlike a time limit.
    """
    if not compiles() or not len(plan.free):
        return plan
    problem = plan.problem
    usd = plan.arcs.usd
    if problem.weights.balance:
        slope = balance_slope(problem, plan.gpus_by_pool())
        usd = usd + problem.classes.need[:, [GPUS]] * slope[problem.pools.region]
    counts, free, placed = plan.counts.copy(), plan.free.copy(), plan.placed.copy()
    waiting = problem.classes.count - placed
    moves = run_improve(
        usd,
        problem.classes.wait_usd.astype(float),
        problem.classes.need,
        movable(problem),
        counts,
        free,
        waiting,
        evaluations,
    )
    if not moves:
        return plan
    better = PartialPlan(problem, plan.arcs)
    class_index, pool_index = np.nonzero(counts)
    better.load(class_index, pool_index, counts[class_index, pool_index])
    if not problem.weights.balance:
        return better
    # With a balance term the search worked on its slope; only the true cost tells whether it helped.
    before, after = (plan_usd(problem, plan.arcs, *one.arcs_used()) for one in (plan, better))
    return better if after < before else plan


def movable(problem: Problem) -> BoolArray:
    """[C] classes whose copies may be moved one by one.

    Copies of one task are tied by their regions, and limits of a tenant tie its classes: those stay where they are.
    """
    tenants, tenant = problem.tenants, problem.classes.tenant
    limited = np.append(np.isfinite(tenants.quota_gpus) | np.isfinite(tenants.budget_usd_per_hour), False)
    return np.asarray((problem.classes.replicas == 1) & ~limited[np.where(tenant == NOWHERE, len(tenants), tenant)])


class LocalSearch(NamedTuple):
    """What the search reads and changes.

    usd, wait_usd, need: of the problem.
    counts, free, waiting: the plan; changed by every move.
    members, held: [pools, classes] the classes that can be moved out of each pool, of which the first held[pool] count.
    other, other_at: by class the cheapest pool for one copy, and the number of moves at which that was found out.
    """

    usd: FloatArray
    wait_usd: FloatArray
    need: FloatArray
    counts: IntArray
    free: FloatArray
    waiting: IntArray
    members: IntArray
    held: IntArray
    other: IntArray
    other_at: IntArray


class CopyMove(NamedTuple):
    """One copy to `target`; where `ejected` is not -1, `copies` of that class first go from there to `refuge`."""

    target: int
    ejected: int
    copies: int
    refuge: int
    looked: int
    """Moves looked at so far."""


@compiled
def run_improve(
    usd: Any, wait_usd: Any, need: Any, movable: Any, counts: Any, free: Any, waiting: Any, evaluations: int
) -> int:
    """Apply the best move of each class and source in turn until none helps; returns the number of moves.

    `counts`, `free` and `waiting` are changed in place.
    """
    classes, pools = usd.shape
    search = LocalSearch(
        usd, wait_usd, need, counts, free, waiting, np.full((pools, classes), -1, np.int64), np.zeros(pools, np.int64),
        np.full(classes, -1, np.int64), np.full(classes, -1, np.int64),
    )  # fmt: skip
    moves, looked, improved = 0, 0, True
    while improved and looked < evaluations:
        improved = False
        _list_members(search, movable)
        for row in range(classes):
            if not movable[row]:
                continue
            for source in range(WAITING, pools):
                while looked < evaluations and _copies_at(search, row, source) > 0:
                    move = _best_move(search, row, source, moves, looked)
                    looked = move.looked
                    if move.target < 0:
                        break
                    _make(search, row, source, move)
                    moves += 1
                    improved = True
    return moves


@inlined
def _list_members(search: LocalSearch, movable: Any) -> None:
    search.held[:] = 0
    for row in range(len(movable)):
        for pool in range(len(search.held)):
            if movable[row] and search.counts[row, pool] > 0:
                search.members[pool, search.held[pool]] = row
                search.held[pool] += 1


@inlined
def _copies_at(search: LocalSearch, row: int, source: int) -> int:
    return int(search.waiting[row] if source == WAITING else search.counts[row, source])


@inlined
def _best_move(search: LocalSearch, row: int, source: int, moves: int, looked: int) -> CopyMove:
    """Find the move of one copy from its source that saves most; none (target -1) where nothing saves anything."""
    usd, wait_usd, need, counts, free = search.usd, search.wait_usd, search.need, search.counts, search.free
    members, held, other, other_at = search.members, search.held, search.other, search.other_at
    now = wait_usd[row] if source == WAITING else usd[row, source]
    best = -1e-9 * (1.0 + abs(now))
    target, ejected, copies, refuge = -1, -1, 0, -1
    for pool in range(len(held)):
        gain = usd[row, pool] - now
        if gain >= best or pool == source:
            continue
        looked += 1
        if _room_for(free, need, row, pool, 1):
            best, target, ejected = gain, pool, -1
            continue
        for place in range(held[pool]):
            moved = members[pool, place]
            if moved == row or counts[moved, pool] == 0:
                continue
            looked += 1
            number = _copies_in_the_way(free, need, row, pool, moved)
            if number == 0 or number > counts[moved, pool]:
                continue
            if number > 1:
                to = _cheapest_other(usd, free, need, moved, pool, number)
                looked += len(held) // 8
            else:
                if other_at[moved] != moves or other[moved] == pool:
                    other[moved] = _cheapest_other(usd, free, need, moved, pool, 1)
                    other_at[moved] = moves
                    looked += len(held) // 8
                to = other[moved]
            extra = number * (usd[moved, to] - usd[moved, pool]) if to >= 0 else np.inf
            if source >= 0 and usd[moved, source] < np.inf:
                swapped = number * (usd[moved, source] - usd[moved, pool])
                if swapped < extra and _room_once_left(free, need, row, source, moved, number):
                    to, extra = source, swapped
            if to >= 0 and gain + extra < best:
                best, target, ejected, copies, refuge = gain + extra, pool, moved, number, to
    return CopyMove(target, ejected, copies, refuge, looked)


@inlined
def _room_for(free: Any, need: Any, row: int, pool: int, copies: int) -> bool:
    fits = True
    for dimension in range(free.shape[1]):
        if need[row, dimension] * copies > free[pool, dimension]:
            fits = False
    return fits


@inlined
def _room_once_left(free: Any, need: Any, row: int, source: int, moved: int, copies: int) -> bool:
    """Whether copies of another class fit into the source once one copy of this one has left it."""
    fits = True
    for dimension in range(free.shape[1]):
        if copies * need[moved, dimension] > free[source, dimension] + need[row, dimension]:
            fits = False
    return fits


@inlined
def _copies_in_the_way(free: Any, need: Any, row: int, pool: int, moved: int) -> int:
    """Copies of another class that must leave a pool so that one of this class fits; 0 where that would not help."""
    number = 1
    for dimension in range(free.shape[1]):
        short = need[row, dimension] - free[pool, dimension]
        if short > 0:
            if need[moved, dimension] <= 0:
                number = 0
                break
            number = max(number, int(np.ceil(short / need[moved, dimension])))
    return number


@compiled
def _cheapest_other(usd: Any, free: Any, need: Any, row: int, pool: int, copies: int) -> int:
    """Cheapest pool beside the given one with room for so many copies; -1 when none."""
    best, found = np.inf, -1
    for other in range(free.shape[0]):
        if other != pool and usd[row, other] < best and _room_for(free, need, row, other, copies):
            best, found = usd[row, other], other
    return found


@inlined
def _make(search: LocalSearch, row: int, source: int, move: CopyMove) -> None:
    """Make a move: the copy leaves first, because what is ejected may take its place."""
    _leave(search, row, source, 1)
    if move.ejected >= 0:
        _leave(search, move.ejected, move.target, move.copies)
        _enter(search, move.ejected, move.refuge, move.copies)
    _enter(search, row, move.target, 1)


@inlined
def _leave(search: LocalSearch, row: int, source: int, copies: int) -> None:
    if source == WAITING:
        search.waiting[row] -= copies
    else:
        search.counts[row, source] -= copies
        for dimension in range(search.free.shape[1]):
            search.free[source, dimension] += search.need[row, dimension] * copies


@compiled
def _enter(search: LocalSearch, row: int, target: int, copies: int) -> None:
    search.counts[row, target] += copies
    for dimension in range(search.free.shape[1]):
        search.free[target, dimension] -= search.need[row, dimension] * copies
    for place in range(search.held[target]):
        if search.members[target, place] == row:
            return
    search.members[target, search.held[target]] = row
    search.held[target] += 1
