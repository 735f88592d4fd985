"""The relaxed global problem in one dimension: minimum-cost flow from classes to pools, exact, by column generation.

Copies become GPU units, so gangs may split: the optimum is the optimum of the linear relaxation and a lower bound of
the plan. OR-Tools solves the flow over a few arcs a class; shortest paths in the residual graph give the pools' shadow
prices; arcs that those prices show to be worth having are added until none is left. The optimum over all arcs is
reached with some per cent of them (Ahuja, Magnanti, Orlin: Network Flows, 1993, sections 9.3 and 17.5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ortools.graph.python import min_cost_flow

from scheduling.arrays import BoolArray, FloatArray, IntArray

FIRST_ARCS = 6
"""Arcs a class starts with. More make the first flow slower, fewer make more rounds; flat between 4 and 10."""
ADDED_ARCS = 4
"""Arcs a class may gain in a round."""
MAX_ROUNDS = 60
"""Far above what is needed (under 15 in every benchmark); a bound that is not yet tight stays a true bound."""
_COST_RANGE = 1 << 58
"""OR-Tools scales costs by the number of nodes + 1 in 64 bits; the largest cost times that must stay below 2^62."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """Supply, capacity and cost, all in integer units of one resource.

    Attributes:
        units: [C] of one copy, at least 1.
        copies: [C].
        unit_usd: [C, P] cost of one unit; inf forbids.
        wait_usd: [C] cost of one unit left unplaced.
        capacity: [P] units.
        region_limit: [C] most copies in one region, less than `copies` for classes with replicas.
        region: [P] region of each pool; pools of a region lie together.
        balance: convex price of a region's units, or None.
    """

    units: IntArray
    copies: IntArray
    unit_usd: FloatArray
    wait_usd: FloatArray
    capacity: IntArray
    region_limit: IntArray
    region: IntArray
    balance: Segments | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Piecewise-linear convex price of the units a region uses: rows (region, length in units, USD per unit)."""

    region: IntArray
    length: IntArray
    unit_usd: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """An optimal flow: units per arc, and the price of one unit of each pool that proves it."""

    class_index: IntArray
    pool_index: IntArray
    units: IntArray
    prices: FloatArray
    rounds: int


def solve_transport(
    problem: Transport, start_prices: FloatArray | None, expired: Callable[[], bool], keep: tuple[IntArray, IntArray]
) -> Flow:
    """Solve to optimality over all arcs.

    Args:
        problem: see Transport.
        start_prices: [P] prices to choose the first arcs with, None for zero.
        expired: tells when to stop early with what there is.
        keep: (class, pool) arcs to start with besides the cheapest ones, such as where tasks run now.
    """
    prices = np.zeros(len(problem.capacity)) if start_prices is None else start_prices
    columns = np.isfinite(problem.unit_usd) & False
    columns[keep] = True
    _add_cheapest(columns, problem.unit_usd + prices, FIRST_ARCS)
    columns &= np.isfinite(problem.unit_usd)
    for rounds in range(1, MAX_ROUNDS + 1):
        class_index, pool_index = np.nonzero(columns)
        units, waiting, blocked = _min_cost_flow(problem, class_index, pool_index)
        prices = _residual_prices(problem, class_index, pool_index, units, waiting, blocked)
        if expired():
            break
        priced = problem.unit_usd + prices
        best = np.minimum(_row_minimum(priced, class_index, pool_index), problem.wait_usd)
        # One part in 10^9 of a class's own cost: far above float noise, far below any price.
        worth = (priced < (best - 1e-9 * (1.0 + np.abs(best)))[:, None]) & ~columns
        rows = np.flatnonzero(worth.any(axis=1))
        if not rows.size:
            break
        added = columns[rows]
        _add_cheapest(added, np.where(worth[rows], priced[rows], np.inf), ADDED_ARCS)
        columns[rows] = added
    used = units > 0
    return Flow(
        class_index=class_index[used], pool_index=pool_index[used], units=units[used], prices=prices, rounds=rounds
    )


def _add_cheapest(columns: BoolArray, priced: FloatArray, number: int) -> None:
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


@dataclass(slots=True)
class _Network:
    """Arcs of the flow network, collected in columns."""

    tails: list[IntArray]
    heads: list[IntArray]
    room: list[IntArray]
    usd: list[FloatArray]

    def add(self, tail: IntArray, head: IntArray, room: IntArray, usd: FloatArray) -> None:
        self.tails.append(tail)
        self.heads.append(head)
        self.room.append(room)
        self.usd.append(usd)

    def solve(self, supply: IntArray) -> IntArray:
        usd = np.concatenate(self.usd)
        scale = _COST_RANGE / (len(supply) + 2) / max(float(np.abs(usd).max(initial=0.0)), 1e-12)
        solver = min_cost_flow.SimpleMinCostFlow()
        arcs = solver.add_arcs_with_capacity_and_unit_cost(
            np.concatenate(self.tails).astype(np.int32),
            np.concatenate(self.heads).astype(np.int32),
            np.concatenate(self.room),
            np.rint(usd * scale).astype(np.int64),
        )
        solver.set_nodes_supplies(np.arange(len(supply), dtype=np.int32), supply)
        status = solver.solve()
        if status != solver.OPTIMAL:  # every unit may wait, so this is a number out of range, not an infeasible problem
            raise ArithmeticError(f"minimum-cost flow ended with {status}: quantities or prices beyond 64 bits")
        return np.asarray(solver.flows(arcs), np.int64)


def _min_cost_flow(
    problem: Transport, class_index: IntArray, pool_index: IntArray
) -> tuple[IntArray, IntArray, BoolArray]:
    """Units on each arc, units waiting by class, and which arcs can take no more of their class."""
    classes, pools = problem.unit_usd.shape
    regions = int(problem.region.max(initial=-1)) + 1
    pool_node, sink = classes, classes + pools
    region_node = sink + 1
    spread_node = region_node + (regions if problem.balance is not None else 0)
    # A gang that lies whole in a pool uses a multiple of its own size there.
    unit = problem.units[class_index]
    limit = np.minimum(problem.capacity[pool_index] // unit, problem.copies[class_index]) * unit
    network = _Network([], [], [], [])

    spread = np.flatnonzero(problem.region_limit[class_index] < problem.copies[class_index])
    group, of_arc = np.unique(class_index[spread] * regions + problem.region[pool_index[spread]], return_inverse=True)
    tail = class_index.copy()
    tail[spread] = spread_node + of_arc
    group_class = group // max(regions, 1)
    group_limit = problem.region_limit[group_class] * problem.units[group_class]

    network.add(tail, pool_node + pool_index, limit, problem.unit_usd[class_index, pool_index])
    network.add(group_class, spread_node + np.arange(len(group)), group_limit, np.zeros(len(group)))
    supply = problem.units * problem.copies
    network.add(np.arange(classes), np.full(classes, sink), supply, problem.wait_usd)
    pool_nodes = pool_node + np.arange(pools)
    if problem.balance is None:
        network.add(pool_nodes, np.full(pools, sink), problem.capacity, np.zeros(pools))
    else:
        segments = problem.balance
        network.add(pool_nodes, region_node + problem.region, problem.capacity, np.zeros(pools))
        network.add(
            region_node + segments.region, np.full(len(segments.region), sink), segments.length, segments.unit_usd
        )
    node_supply = np.zeros(spread_node + len(group), np.int64)
    node_supply[:classes] = supply
    node_supply[sink] = -supply.sum()
    flows = network.solve(node_supply)

    units = flows[: len(class_index)]
    blocked = units >= limit
    entered = flows[len(class_index) : len(class_index) + len(group)]
    blocked[spread] |= (entered >= group_limit)[of_arc]
    first_wait = len(class_index) + len(group)
    return units, flows[first_wait : first_wait + classes], blocked


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
