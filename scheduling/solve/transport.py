"""The relaxed global problem in one dimension: minimum-cost flow from classes to pools, exact, by column generation.

Copies become GPU units, so gangs may split: the optimum is the optimum of the linear relaxation and a lower bound of
the plan. OR-Tools solves the flow over a few arcs a class; shortest paths in the residual graph give the pools' shadow
prices; arcs that those prices show to be worth having are added until none is left. The optimum over all arcs is
reached with some per cent of them (Ahuja, Magnanti, Orlin: Network Flows, 1993, sections 9.3 and 17.5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from ortools.graph.python import min_cost_flow

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.compiled import COMPILED
from thalweg.scheduling.solve.simplex import FORBIDDEN, run_simplex

FIRST_ARCS = 6
"""Arcs a class starts with. More make the first flow slower, fewer make more rounds; flat between 4 and 10."""
ADDED_ARCS = 4
"""Arcs a class may gain in a round."""
MAX_ROUNDS = 60
"""Far above what is needed (under 15 in every benchmark); a bound that is not yet tight stays a true bound."""
SAMPLE = 4
"""Every how many-th class is in the sample that gives the first prices."""
PIVOTS_PER_SECOND = 60_000
"""Pivots counted on before a deadline; a flow stopped early is a plan, only not the best."""
MAX_PIVOTS = 1 << 40
"""No limit in practice: strongly feasible trees cannot cycle."""
_SIMPLEX_COST_RANGE = 1 << 48
"""Integer cost of the dearest arc: potentials, sums along a path, stay in 64 bits for paths of 2^14 arcs."""
_COST_RANGE = 1 << 50
"""OR-Tools scales costs by the number of nodes + 1 in 64 bits; the largest cost times that must stay below 2^62, and
precision costs time: 2^50 keeps a billionth of the dearest arc with 10^6 nodes."""


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
        regions: how many there are, with pools or without.
        balance: convex price of a region's units, or None.
    """

    units: IntArray
    copies: IntArray
    unit_usd: FloatArray
    wait_usd: FloatArray
    capacity: IntArray
    region_limit: IntArray
    region: IntArray
    regions: int
    balance: Segments | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Piecewise-linear convex price of the units a region uses: rows (region, length in units, USD per unit)."""

    region: IntArray
    length: IntArray
    unit_usd: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """An optimal flow: units per arc, and the price of one unit of each pool (beside its region's) that proves it."""

    class_index: IntArray
    pool_index: IntArray
    units: IntArray
    prices: FloatArray
    region_prices: FloatArray | None
    rounds: int


def solve_transport(
    problem: Transport,
    start_prices: FloatArray | None,
    remaining_s: Callable[[], float] | None,
    keep: tuple[IntArray, IntArray],
    region_prices: FloatArray | None = None,
) -> Flow:
    """Solve to optimality over all arcs: by the compiled simplex where it compiles, else by OR-Tools.

    Args:
        problem: see Transport.
        start_prices: [P] prices to choose the first arcs with, None for zero.
        remaining_s: seconds left, or None for no deadline; at the deadline it ends with what there is.
        keep: (class, pool) arcs to start with besides the cheapest ones, such as where tasks run now.
        region_prices: [R] what the balance is expected to charge a unit, to start near.
    """
    if COMPILED:
        if start_prices is None and worth_sampling(problem):
            sample, _ = sample_of(problem, SAMPLE)
            guess = solve_transport(sample, None, remaining_s, keep)
            start_prices, region_prices = guess.prices, guess.region_prices
        pivots = MAX_PIVOTS if remaining_s is None else int(max(remaining_s(), 0.0) * PIVOTS_PER_SECOND)
        return by_simplex(problem, start_prices, region_prices, pivots)
    return by_column_generation(problem, start_prices, remaining_s, keep)


def worth_sampling(problem: Transport) -> bool:
    """Whether a sample's prices save more time than they take."""
    classes, pools = problem.unit_usd.shape
    return bool(classes >= max(1000, pools))


def sample_of(problem: Transport, every: int) -> tuple[Transport, float]:
    """Every so many-th class on proportionally smaller pools, and the share of the units that it has.

    Its prices are nearly those of the whole, at a fraction of the time.
    """
    rows = np.arange(0, len(problem.units), every)
    supply = problem.units * problem.copies
    whole = problem.balance
    share = float(supply[rows].sum() / max(supply.sum(), 1))
    sample = replace(
        problem,
        units=np.ones(len(rows), np.int64),
        copies=supply[rows],
        unit_usd=problem.unit_usd[rows],
        wait_usd=problem.wait_usd[rows],
        capacity=np.floor(problem.capacity * share).astype(np.int64),
        region_limit=supply[rows],
        balance=None if whole is None else replace(whole, length=np.ceil(whole.length * share).astype(np.int64)),
    )
    return sample, share


def by_simplex(
    problem: Transport,
    start_prices: FloatArray | None,
    region_prices: FloatArray | None = None,
    max_pivots: int = MAX_PIVOTS,
) -> Flow:
    """Solve with the compiled network simplex; region_prices are what the balance is expected to charge."""
    classes, pools = problem.unit_usd.shape
    regions = problem.regions
    sink, supply = classes + pools, problem.units * problem.copies
    region_node = sink + 1
    node = region_node + (regions if problem.balance is not None else 0)
    limited = np.flatnonzero(problem.region_limit < problem.copies)
    spread = np.full(classes, -1, np.int64)
    spread[limited] = node + regions * np.arange(len(limited))
    spread_nodes = node + np.arange(len(limited) * regions)
    spread_class = np.repeat(limited, regions)

    extra = _Network([], [], [], [])
    extra.add(np.arange(classes), np.full(classes, sink), supply + 1, problem.wait_usd)
    pool_nodes = classes + np.arange(pools)
    to_region = np.full(pools, sink) if problem.balance is None else region_node + problem.region
    extra.add(pool_nodes, to_region, problem.capacity, np.zeros(pools))
    segments = problem.balance
    first_segment = np.zeros(0, np.int64)
    if segments is not None:
        # The cheapest segment of each region comes first, so it is the one the region hangs on.
        first_segment = classes + pools + np.searchsorted(segments.region, np.arange(regions))
        extra.add(
            region_node + segments.region, np.full(len(segments.region), sink), _open_ended(segments), segments.unit_usd
        )
    before_spread = sum(len(part) for part in extra.tails)
    # A copy held up before its region may wait there as well as at its class.
    extra.add(spread_nodes, np.full(len(spread_nodes), sink), supply[spread_class] + 1, problem.wait_usd[spread_class])
    limit = (problem.region_limit * problem.units)[spread_class]
    extra.add(spread_class, spread_nodes, limit, np.zeros(len(spread_nodes)))
    first_arc = np.concatenate(
        [
            np.arange(classes + pools),
            [-1],
            first_segment,
            before_spread + np.arange(len(spread_nodes)),
        ]
    ).astype(np.int64)

    extra_usd = np.concatenate(extra.usd)
    finite = np.isfinite(problem.unit_usd)
    top = max(float(np.abs(extra_usd).max(initial=0.0)), float(problem.unit_usd.max(initial=0.0, where=finite)), 1e-12)
    scale = _SIMPLEX_COST_RANGE / top
    with np.errstate(invalid="ignore"):
        usd = np.rint(problem.unit_usd * scale).astype(np.int64, order="C")
    usd[~finite] = FORBIDDEN
    if start_prices is None:
        start_prices = np.zeros(pools)
    guess = start_prices if region_prices is None else start_prices + region_prices[problem.region]
    flow, _, potentials, pivots = run_simplex(
        usd,
        problem.units,
        problem.copies,
        problem.capacity,
        problem.region,
        spread,
        np.concatenate(extra.tails),
        np.concatenate(extra.heads),
        np.concatenate(extra.room),
        np.rint(extra_usd * scale).astype(np.int64),
        first_arc,
        np.rint(np.minimum(start_prices, top) * scale).astype(np.int64),
        np.rint(np.clip(guess, -top, top) * scale).astype(np.int64),
        _by_regret(problem, guess),
        sink,
        max_pivots,
    )
    class_index, pool_index = np.nonzero(flow)
    region_prices = None if segments is None else -potentials[region_node : region_node + regions] / scale
    above = potentials[sink] if segments is None else potentials[region_node + problem.region]
    prices = np.maximum(above - potentials[classes:sink], 0) / scale
    units = flow[class_index, pool_index]
    return Flow(
        class_index=class_index,
        pool_index=pool_index,
        units=units,
        prices=prices,
        region_prices=region_prices,
        rounds=int(pivots),
    )


def _open_ended(segments: Segments) -> IntArray:
    """Lengths with one unit more in each region's last piece: a full region still hangs on a piece with room."""
    last = np.append(np.diff(segments.region) > 0, True)
    return np.asarray(segments.length + last)


def _by_regret(problem: Transport, prices: FloatArray) -> IntArray:
    """Classes by what their second-best place would cost more, most first: who is indifferent chooses last."""
    priced = np.column_stack([problem.unit_usd + prices, problem.wait_usd])
    if priced.shape[1] < 2:
        return np.arange(len(priced))
    two = np.partition(priced, 1, axis=1)[:, :2]
    with np.errstate(invalid="ignore"):
        return np.argsort(-(two[:, 1] - two[:, 0]), kind="stable")


def by_column_generation(
    problem: Transport,
    start_prices: FloatArray | None,
    remaining_s: Callable[[], float] | None,
    keep: tuple[IntArray, IntArray],
) -> Flow:
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
    return Flow(
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
    regions = problem.regions
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
