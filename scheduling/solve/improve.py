"""Local search on a partial plan: shift a copy to a cheaper pool, or make room for it by moving others on.

Rounding leaves holes too small for the gangs that wait. Two pools with four GPUs free each hold a gang of eight once a
gang of four moves from one to the other: a chain of one ejection, which is what this search looks for. It is compiled;
without a compiler it is left out, and plans are as good as rounding and the integer program make them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.scheduling.arrays import BoolArray
from thalweg.scheduling.compiled import compiled, compiles
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


@compiled
def _room_for(free: Any, need: Any, row: int, pool: int, copies: int) -> bool:
    fits = True
    for dimension in range(free.shape[1]):
        if need[row, dimension] * copies > free[pool, dimension]:
            fits = False
    return fits


@compiled
def _cheapest_other(usd: Any, free: Any, need: Any, row: int, pool: int, copies: int) -> int:
    """Cheapest pool beside the given one with room for so many copies; -1 when none."""
    best, found = np.inf, -1
    for other in range(free.shape[0]):
        if other != pool and usd[row, other] < best and _room_for(free, need, row, other, copies):
            best, found = usd[row, other], other
    return found


@compiled
def _shift(counts: Any, free: Any, need: Any, row: int, source: int, target: int, copies: int) -> None:
    if source >= 0:
        counts[row, source] -= copies
    counts[row, target] += copies
    for dimension in range(free.shape[1]):
        if source >= 0:
            free[source, dimension] += need[row, dimension] * copies
        free[target, dimension] -= need[row, dimension] * copies


@compiled
def run_improve(
    usd: Any, wait_usd: Any, need: Any, movable: Any, counts: Any, free: Any, waiting: Any, evaluations: int
) -> int:
    """Apply the best move of each class and source in turn until none helps; returns the number of moves.

    `counts`, `free` and `waiting` are changed in place.
    """
    classes, pools = usd.shape
    moves, looked, improved = 0, 0, True
    members = np.full((pools, classes), -1, np.int64)
    held = np.zeros(pools, np.int64)
    # By class: where one more copy would go at the least cost, refreshed when asked for after a change.
    other = np.full(classes, -2, np.int64)
    stamp = np.full(classes, -1, np.int64)
    while improved and looked < evaluations:
        improved = False
        for pool in range(pools):
            held[pool] = 0
        for row in range(classes):
            if movable[row]:
                for pool in range(pools):
                    if counts[row, pool] > 0:
                        members[pool, held[pool]] = row
                        held[pool] += 1
        for row in range(classes):
            if not movable[row]:
                continue
            for source in range(WAITING, pools):
                if looked >= evaluations:
                    break
                again = waiting[row] > 0 if source == WAITING else counts[row, source] > 0
                while again and looked < evaluations:
                    again = False
                    now = wait_usd[row] if source == WAITING else usd[row, source]
                    best = -1e-9 * (1.0 + abs(now))
                    target, ejected, copies, refuge = -1, -1, 0, -1
                    for pool in range(pools):
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
                            number, helps = 1, True
                            for dimension in range(free.shape[1]):
                                short = need[row, dimension] - free[pool, dimension]
                                if short > 0:
                                    if need[moved, dimension] <= 0:
                                        helps = False
                                        break
                                    number = max(number, int(np.ceil(short / need[moved, dimension])))
                            if not helps or number > counts[moved, pool]:
                                continue
                            to = -1
                            if number == 1:
                                if stamp[moved] != moves or other[moved] == pool:
                                    other[moved] = _cheapest_other(usd, free, need, moved, pool, 1)
                                    stamp[moved] = moves
                                    looked += pools // 8
                                to = other[moved]
                            else:
                                to = _cheapest_other(usd, free, need, moved, pool, number)
                                looked += pools // 8
                            extra = number * (usd[moved, to] - usd[moved, pool]) if to >= 0 else np.inf
                            if source >= 0 and usd[moved, source] < np.inf:
                                swapped = number * (usd[moved, source] - usd[moved, pool])
                                if swapped < extra:
                                    fits = True
                                    for dimension in range(free.shape[1]):
                                        left = free[source, dimension] + need[row, dimension]
                                        if number * need[moved, dimension] > left:
                                            fits = False
                                    if fits:
                                        to, extra = source, swapped
                            if to >= 0 and gain + extra < best:
                                best, target, ejected, copies, refuge = gain + extra, pool, moved, number, to
                    if target < 0:
                        continue
                    if ejected >= 0 and refuge == source:
                        counts[row, source] -= 1
                        for dimension in range(free.shape[1]):
                            free[source, dimension] += need[row, dimension]
                        _shift(counts, free, need, ejected, target, refuge, copies)
                        _shift(counts, free, need, row, WAITING, target, 1)
                    else:
                        if ejected >= 0:
                            _shift(counts, free, need, ejected, target, refuge, copies)
                        _shift(counts, free, need, row, source, target, 1)
                    for touched, pool in ((row, target), (ejected, refuge)):
                        if touched >= 0 and pool >= 0:
                            known = False
                            for place in range(held[pool]):
                                if members[pool, place] == touched:
                                    known = True
                                    break
                            if not known:
                                members[pool, held[pool]] = touched
                                held[pool] += 1
                    if source == WAITING:
                        waiting[row] -= 1
                    moves += 1
                    improved = True
                    again = waiting[row] > 0 if source == WAITING else counts[row, source] > 0
    return moves
