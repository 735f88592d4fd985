"""The relaxed problem by column generation, where no compiler is: OR-Tools solves flows over a few arcs a class.

Shortest paths in the residual graph give the pools' shadow prices; arcs that those prices show to be worth having are
added until none is left. The optimum over all arcs is reached with some per cent of them (Ahuja, Magnanti, Orlin:
Network Flows, 1993, sections 9.3 and 17.5).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.solve.transport.arc_list import ArcList
from thalweg.scheduling.solve.transport.transport import Transport, TransportFlow

FIRST_ARCS = 6
"""Arcs a class starts with. More make the first flow slower, fewer make more rounds; flat between 4 and 10."""
ADDED_ARCS = 4
"""Arcs a class may gain in a round."""
MAX_ROUNDS = 60
"""Far above what is needed (under 15 in every benchmark); a bound that is not yet tight stays a true bound."""
_COST_RANGE = 1 << 50
"""OR-Tools scales costs by the number of nodes + 1 in 64 bits; the largest cost times that must stay below 2^62, and
precision costs time: 2^50 keeps a billionth of the dearest arc with 10^6 nodes."""


def by_column_generation(
    problem: Transport,
    start_prices: FloatArray | None,
    remaining_s: Callable[[], float] | None,
    keep: tuple[IntArray, IntArray],
) -> TransportFlow:
    """Solve with OR-Tools over a growing choice of arcs."""
    prices = np.zeros(len(problem.capacity)) if start_prices is None else start_prices
    columns = np.isfinite(problem.unit_usd) & False
    columns[keep] = True
    add_cheapest(columns, problem.unit_usd + prices, FIRST_ARCS)
    columns &= np.isfinite(problem.unit_usd)
    rounds = 0
    while rounds < MAX_ROUNDS:
        rounds += 1
        class_index, pool_index = np.nonzero(columns)
        units, waiting, blocked = _min_cost_flow(problem, class_index, pool_index)
        prices = _residual_prices(problem, class_index, pool_index, units, waiting, blocked)
        if remaining_s is not None and remaining_s() <= 0.0:
            break
        priced = problem.unit_usd + prices
        # An arc that can take no more of its class does not tell what the class's next unit costs.
        best = np.minimum(_row_minimum(priced, class_index[~blocked], pool_index[~blocked]), problem.wait_usd)
        # One part in 10^9 of a class's own cost: far above float noise, far below any price.
        worth = (priced < (best - 1e-9 * (1.0 + np.abs(best)))[:, None]) & ~columns
        rows = np.flatnonzero(worth.any(axis=1))
        if not rows.size:
            break
        added = columns[rows]
        add_cheapest(added, np.where(worth[rows], priced[rows], np.inf), ADDED_ARCS)
        columns[rows] = added
    used = units > 0
    return TransportFlow(
        class_index=class_index[used],
        pool_index=pool_index[used],
        units=units[used],
        prices=prices,
        region_prices=None,
        rounds=rounds,
    )


def add_cheapest(columns: BoolArray, priced: FloatArray, number: int) -> None:
    """Mark the `number` cheapest finite entries of each row."""
    if priced.shape[1] <= number:
        columns |= np.isfinite(priced)
        return
    cheapest = np.argpartition(priced, number - 1, axis=1)[:, :number]
    finite = np.isfinite(np.take_along_axis(priced, cheapest, axis=1))
    rows = np.broadcast_to(np.arange(len(priced))[:, None], cheapest.shape)
    columns[rows[finite], cheapest[finite]] = True


def _row_minimum(priced: FloatArray, class_index: IntArray, pool_index: IntArray) -> FloatArray:
    least = np.full(len(priced), np.inf)
    starts = np.flatnonzero(np.diff(class_index, prepend=-1))
    if class_index.size:
        least[class_index[starts]] = np.minimum.reduceat(priced[class_index, pool_index], starts)
    return least


def _min_cost_flow(
    problem: Transport, class_index: IntArray, pool_index: IntArray
) -> tuple[IntArray, IntArray, BoolArray]:
    """Units on each arc, units waiting by class, and which arcs can take no more of their class."""
    classes, pools = problem.unit_usd.shape
    regions = problem.regions
    sink = classes + pools
    first_region = sink + 1
    first_spread = first_region + (regions if problem.balance is not None else 0)
    # A gang that lies whole in a pool uses a multiple of its own size there.
    unit = problem.units[class_index]
    limit = np.minimum(problem.capacity[pool_index] // unit, problem.copies[class_index]) * unit
    spread = np.flatnonzero(problem.region_limit[class_index] < problem.copies[class_index])
    group, of_arc = np.unique(class_index[spread] * regions + problem.region[pool_index[spread]], return_inverse=True)
    tail = class_index.copy()
    tail[spread] = first_spread + of_arc
    group_class = group // max(regions, 1)
    group_limit = problem.region_limit[group_class] * problem.units[group_class]

    arcs, supply = ArcList(), problem.units * problem.copies
    arcs.add(tail, classes + pool_index, limit, problem.unit_usd[class_index, pool_index])
    arcs.add(group_class, first_spread + np.arange(len(group)), group_limit, np.zeros(len(group)))
    arcs.add(np.arange(classes), np.full(classes, sink), supply, problem.wait_usd)
    _add_capacity(problem, arcs, sink, first_region)
    node_supply = np.zeros(first_spread + len(group), np.int64)
    node_supply[:classes] = supply
    node_supply[sink] = -supply.sum()
    units, entered, waiting = np.split(
        _solve(arcs, node_supply)[: len(class_index) + len(group) + classes],
        [len(class_index), len(class_index) + len(group)],
    )
    blocked = units >= limit
    blocked[spread] |= (entered >= group_limit)[of_arc]
    return units, waiting, blocked


def _add_capacity(problem: Transport, arcs: ArcList, sink: int, first_region: int) -> None:
    """Arcs from the pools to the sink, with a balance through their regions and its segments."""
    classes, pools = problem.unit_usd.shape
    pool_nodes, segments = classes + np.arange(pools), problem.balance
    if segments is None:
        arcs.add(pool_nodes, np.full(pools, sink), problem.capacity, np.zeros(pools))
        return
    arcs.add(pool_nodes, first_region + problem.region, problem.capacity, np.zeros(pools))
    sinks = np.full(len(segments.region), sink)
    arcs.add(first_region + segments.region, sinks, segments.length, segments.unit_usd)


def _solve(arcs: ArcList, supply: IntArray) -> IntArray:
    """Units on each arc of the cheapest flow that brings every node's supply to the sink."""
    tail, head, room, usd = arcs.columns()
    scale = _COST_RANGE / (len(supply) + 2) / max(float(np.abs(usd).max(initial=0.0)), 1e-12)
    from ortools.graph.python import min_cost_flow  # late: with a compiler nobody comes here

    solver = min_cost_flow.SimpleMinCostFlow()
    added = solver.add_arcs_with_capacity_and_unit_cost(
        tail.astype(np.int32), head.astype(np.int32), room, np.rint(usd * scale).astype(np.int64)
    )
    solver.set_nodes_supplies(np.arange(len(supply), dtype=np.int32), supply)
    status = solver.solve()
    if status != solver.OPTIMAL:  # every unit may wait, so this is a number out of range, not an infeasible problem
        raise ArithmeticError(f"minimum-cost flow ended with {status}: quantities or prices beyond 64 bits")
    return np.asarray(solver.flows(added), np.int64)


def _residual_prices(
    problem: Transport,
    class_index: IntArray,
    pool_index: IntArray,
    units: IntArray,
    waiting: IntArray,
    blocked: BoolArray,
) -> FloatArray:
    """The least prices that prove the flow optimal over its arcs: what one more unit of each pool would save.

    Whoever holds (or waits for) a place p and could move to q at a saving s shows that a unit of q is worth at least a
    unit of p plus s. Waiting and pools with room are worth nothing more; the longest such chain is the price.
    """
    classes, pools = problem.unit_usd.shape
    nowhere = pools
    spare = np.bincount(pool_index, units, pools) < problem.capacity
    # Held places of each class: pools with flow, and waiting.
    still = np.flatnonzero(waiting)
    held = np.flatnonzero(units)
    held_class = np.concatenate([class_index[held], still])
    held_place = np.concatenate([pool_index[held], np.full(len(still), nowhere)])
    held_usd = np.concatenate([problem.unit_usd[class_index[held], pool_index[held]], problem.wait_usd[still]])
    # Targets of each class: its arcs into full pools that can take more of it. class_index is sorted.
    open_arc = np.flatnonzero(~spare[pool_index] & ~blocked)
    first = np.searchsorted(class_index[open_arc], np.arange(classes + 1))
    number = np.diff(first)[held_class]
    at = np.repeat(first[held_class] - np.concatenate([[0], np.cumsum(number)[:-1]]), number) + np.arange(number.sum())
    target = open_arc[at]
    saving = np.repeat(held_usd, number) - problem.unit_usd[class_index[target], pool_index[target]]
    best = np.full((pools + 1, pools), -np.inf)
    np.maximum.at(best, (np.repeat(held_place, number), pool_index[target]), saving)
    prices = np.zeros(pools + 1)
    rows = np.unique(held_place)
    best = best[rows]
    for _ in range(pools + 1):
        raised = np.maximum(prices[:pools], (prices[rows, None] + best).max(axis=0, initial=0.0))
        if (raised <= prices[:pools] * (1.0 + 1e-12) + 1e-12).all():
            break
        prices[:pools] = raised
    return prices[:pools]
