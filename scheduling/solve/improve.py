"""Local search on a partial plan: shift a copy to a cheaper pool, or make room for it by moving others on.

Rounding leaves holes too small for the gangs that wait. Two pools with four GPUs free each hold a gang of eight once a
gang of four moves from one to the other: a chain of one ejection, which is what this search looks for. It is compiled;
without a compiler it is left out, and plans are as good as rounding and the integer program make them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.compiled import COMPILED, compiled
from thalweg.scheduling.problem.cost import plan_usd
from thalweg.scheduling.problem.model import GPUS, NOWHERE, Problem
from thalweg.scheduling.solve.bound import balance_slope
from thalweg.scheduling.solve.partial_plan import PartialPlan

WAITING = -1
"""As a pool: where copies wait."""
NONE = -1
LOOKED, MOVED = 0, 1


def improve(plan: PartialPlan, evaluations: int) -> PartialPlan:
    """Return a partial plan at least as good; the same one when nothing helps.

    Args:
        plan: not changed.
        evaluations: moves looked at before the search stops: deterministic, unlike a time limit.
    """
    if not COMPILED or not len(plan.free):
        return plan
    problem = plan.problem
    usd = plan.arcs.usd
    if problem.weights.balance:
        slope = balance_slope(problem, plan.gpus_by_pool())
        usd = usd + problem.classes.need[:, [GPUS]] * slope[problem.pools.region]
    counts = plan.counts.copy()
    places = Places(
        usd=usd,
        wait_usd=problem.classes.wait_usd.astype(float),
        need=problem.classes.need,
        counts=counts,
        waiting=problem.classes.count - plan.placed,
        free=plan.free.copy(),
    )
    if not run_improve(places, movable(problem), evaluations):
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


class Places(NamedTuple):
    """Where copies lie and what that costs; changed in place.

    usd: [C, P] cost of one copy; inf where it may not lie.
    wait_usd: [C] cost of one copy that waits.
    need: [C, D] of one copy.
    counts, waiting: [C, P] and [C] copies that lie in each pool, and that wait.
    free: [P, D] capacity left.
    """

    usd: FloatArray
    wait_usd: FloatArray
    need: FloatArray
    counts: IntArray
    waiting: IntArray
    free: FloatArray


class Search(NamedTuple):
    """What the search keeps beside the plan.

    movable: [C] classes whose copies may be moved.
    residents, resident_count: [P, C] and [P] movable classes that lie, or lay in this round, in each pool.
    refuge, refuge_known_at: [C] the cheapest pool with room for one more copy, and the number of moves it was found at.
    spent: [LOOKED] moves looked at, [MOVED] moves made.
    """

    movable: BoolArray
    residents: IntArray
    resident_count: IntArray
    refuge: IntArray
    refuge_known_at: IntArray
    spent: IntArray


@compiled
def run_improve(places: Places, movable: BoolArray, evaluations: int) -> int:
    """Make the best move of each class and source in turn until none helps; returns the number of moves."""
    classes, pools = places.usd.shape
    search = Search(
        movable,
        np.full((pools, classes), NONE, np.int64),
        np.zeros(pools, np.int64),
        np.full(classes, NONE, np.int64),
        np.full(classes, NONE, np.int64),
        np.zeros(2, np.int64),
    )
    before = -1
    while before < search.spent[MOVED] and search.spent[LOOKED] < evaluations:
        before = search.spent[MOVED]
        list_residents(places, search)
        for row in range(classes):
            if movable[row]:
                for source in range(WAITING, pools):
                    move_from(row, source, evaluations, places, search)
    return search.spent[MOVED]  # type: ignore[no-any-return]


@compiled
def move_from(row: int, source: int, evaluations: int, places: Places, search: Search) -> None:
    """Move copies of a class out of a pool, or out of waiting, as long as that helps."""
    while search.spent[LOOKED] < evaluations and copies_in(row, source, places) > 0:
        target, ejected, copies, refuge = best_move(row, source, places, search)
        if target == NONE:
            return
        take_out(row, source, 1, places)
        if ejected != NONE:
            take_out(ejected, target, copies, places)
            put_in(ejected, refuge, copies, places)
        put_in(row, target, 1, places)
        note_resident(row, target, search)
        if ejected != NONE:
            note_resident(ejected, refuge, search)
        search.spent[MOVED] += 1


@compiled
def best_move(row: int, source: int, places: Places, search: Search) -> tuple[int, int, int, int]:
    """The move of one copy of a class that saves most, with the ejection that makes room for it if it takes one.

    Returns:
        (target, class to eject from there, how many copies of it, where they go); NONE for no move, no ejection.
    """
    usd_now = places.wait_usd[row] if source == WAITING else places.usd[row, source]
    # A move must save more than the noise of adding floats.
    best_usd = -1e-9 * (1.0 + abs(usd_now))
    target, ejected, copies, refuge = NONE, NONE, 0, NONE
    for pool in range(places.usd.shape[1]):
        usd = places.usd[row, pool] - usd_now
        if usd >= best_usd or pool == source:
            continue
        search.spent[LOOKED] += 1
        if fits(row, 1, pool, places):
            best_usd, target, ejected = usd, pool, NONE
            continue
        for place in range(search.resident_count[pool]):
            resident = search.residents[pool, place]
            if resident == row or places.counts[resident, pool] == 0:
                continue
            search.spent[LOOKED] += 1
            number = copies_in_the_way(row, resident, pool, places)
            if number == 0:
                continue
            to, ejection_usd = cheapest_refuge(resident, number, pool, row, source, places, search)
            if to != NONE and usd + ejection_usd < best_usd:
                best_usd = usd + ejection_usd
                target, ejected, copies, refuge = pool, resident, number, to
    return target, ejected, copies, refuge


@compiled
def copies_in_the_way(row: int, resident: int, pool: int, places: Places) -> int:
    """How many copies of the resident class must leave the pool for one of `row` to fit; 0 when that cannot help."""
    number = 1
    for dimension in range(places.free.shape[1]):
        short = places.need[row, dimension] - places.free[pool, dimension]
        if short > 0:
            freed = places.need[resident, dimension]
            if freed <= 0:
                return 0
            number = max(number, int(np.ceil(short / freed)))
    return 0 if number > places.counts[resident, pool] else number


@compiled
def cheapest_refuge(
    resident: int, copies: int, pool: int, row: int, source: int, places: Places, search: Search
) -> tuple[int, float]:
    """Where copies ejected from a pool go at least cost, and what that costs; NONE when nowhere.

    They may go where there is room, or take the place that the copy of `row` leaves in its source.
    """
    if copies == 1:
        to = known_refuge(resident, pool, places, search)
    else:
        to = find_refuge(resident, copies, pool, places, search)
    usd = places.usd[resident]
    cost = copies * (usd[to] - usd[pool]) if to != NONE else np.inf
    if source != WAITING and usd[source] < np.inf:
        swap = copies * (usd[source] - usd[pool])
        if swap < cost and fits_instead(resident, copies, row, source, places):
            to, cost = source, swap
    return to, cost


@compiled
def known_refuge(resident: int, pool: int, places: Places, search: Search) -> int:
    """`find_refuge` for one copy, kept until the next move."""
    if search.refuge_known_at[resident] != search.spent[MOVED] or search.refuge[resident] == pool:
        search.refuge[resident] = find_refuge(resident, 1, pool, places, search)
        search.refuge_known_at[resident] = search.spent[MOVED]
    return search.refuge[resident]  # type: ignore[no-any-return]


@compiled
def find_refuge(row: int, copies: int, pool: int, places: Places, search: Search) -> int:
    """Cheapest pool beside the given one with room for so many copies; NONE when there is none."""
    search.spent[LOOKED] += places.free.shape[0] // 8
    least, found = np.inf, NONE
    for other in range(places.free.shape[0]):
        if other != pool and places.usd[row, other] < least and fits(row, copies, other, places):
            least, found = places.usd[row, other], other
    return found


@compiled
def fits(row: int, copies: int, pool: int, places: Places) -> bool:
    """Whether the pool has room for so many copies."""
    enough = True
    for dimension in range(places.free.shape[1]):
        if places.need[row, dimension] * copies > places.free[pool, dimension]:
            enough = False
    return enough


@compiled
def fits_instead(resident: int, copies: int, row: int, pool: int, places: Places) -> bool:
    """Whether the pool has room for so many copies of one class once a copy of another has left it."""
    enough = True
    for dimension in range(places.free.shape[1]):
        left = places.free[pool, dimension] + places.need[row, dimension]
        if copies * places.need[resident, dimension] > left:
            enough = False
    return enough


@compiled
def copies_in(row: int, pool: int, places: Places) -> int:
    """Copies of a class in a pool, or waiting."""
    return places.waiting[row] if pool == WAITING else places.counts[row, pool]  # type: ignore[no-any-return]


@compiled
def take_out(row: int, pool: int, copies: int, places: Places) -> None:
    """Take copies of a class out of a pool, or out of waiting."""
    if pool == WAITING:
        places.waiting[row] -= copies
        return
    places.counts[row, pool] -= copies
    for dimension in range(places.free.shape[1]):
        places.free[pool, dimension] += places.need[row, dimension] * copies


@compiled
def put_in(row: int, pool: int, copies: int, places: Places) -> None:
    """Put copies of a class into a pool."""
    places.counts[row, pool] += copies
    for dimension in range(places.free.shape[1]):
        places.free[pool, dimension] -= places.need[row, dimension] * copies


@compiled
def list_residents(places: Places, search: Search) -> None:
    """List anew which movable classes lie in each pool."""
    search.resident_count[:] = 0
    for row in range(places.usd.shape[0]):
        if search.movable[row]:
            for pool in range(places.usd.shape[1]):
                if places.counts[row, pool] > 0:
                    search.residents[pool, search.resident_count[pool]] = row
                    search.resident_count[pool] += 1


@compiled
def note_resident(row: int, pool: int, search: Search) -> None:
    """Add a class to those of a pool, if it is new there."""
    for place in range(search.resident_count[pool]):
        if search.residents[pool, place] == row:
            return
    search.residents[pool, search.resident_count[pool]] = row
    search.resident_count[pool] += 1
