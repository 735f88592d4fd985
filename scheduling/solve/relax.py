"""The relaxed plan: copies may be fractions; its value is a lower bound and its prices say what is scarce."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.compiled import compiles
from thalweg.scheduling.problem.cost import Arcs, plan_usd
from thalweg.scheduling.problem.model import GPUS, NOWHERE, Problem
from thalweg.scheduling.problem.solution import SolveLimits
from thalweg.scheduling.solve.bound import (
    Prices,
    balance_slope,
    free_prices,
    lagrangian_bound,
    point_of_slope,
    priced_usd,
)
from thalweg.scheduling.solve.formulation import formulate, solve_linear
from thalweg.scheduling.solve.transport.column_generation import add_cheapest
from thalweg.scheduling.solve.transport.segments import finer_segments, first_segments
from thalweg.scheduling.solve.transport.solve_transport import solve_transport
from thalweg.scheduling.solve.transport.transport import Transport, TransportFlow, sample_of, worth_sampling

UNITS_PER_GPU = 1000
"""Shares of GPUs are counted in thousandths, as the cluster traces do."""
FIRST_COLUMNS, ADDED_COLUMNS = 8, 4
"""Arcs a class starts with in the linear program, and may gain in a round."""
MAX_ROUNDS = 30
REFINEMENTS = 8
"""Solves with ever finer pieces of the balance term; each is about an eighth as wide as the last."""
BALANCED_GAP, COARSE_GAP, FINE_ARCS = 1e-5, 1e-3, 100_000
"""The pieces are fine enough when the relaxed plan is this close to its bound; with more than FINE_ARCS arcs, where
every solve takes a second, a thousandth will do."""
SAMPLES = ((16, 3), (4, 1))
"""Every how many-th class is in a sample, and how many times its pieces are refined."""
_NO_ARCS = (np.zeros(0, np.int64), np.zeros(0, np.int64))
RELAXED_GAP = 1e-9
"""The linear program counts as solved when its value and the bound differ by less, relatively."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxed:
    """Fractional copies per arc and the prices that prove them.

    `tangent` is the point (GPUs by pool) whose balance slope the prices hold; None where it is the plan's own.
    """

    class_index: IntArray
    pool_index: IntArray
    copies: FloatArray
    prices: Prices
    tangent: FloatArray | None = None

    def bound(self, problem: Problem, arcs: Arcs) -> float:
        """What the prices prove."""
        point = self.gpus_by_pool(problem) if self.tangent is None else self.tangent
        return lagrangian_bound(problem, arcs, self.prices, point)

    def gpus_by_pool(self, problem: Problem) -> FloatArray:
        """GPUs held in each pool."""
        gpus = self.copies * problem.classes.need[self.class_index, GPUS]
        return np.bincount(self.pool_index, gpus, len(problem.pools)).astype(np.float64)


def uncontended(problem: Problem, arcs: Arcs) -> Relaxed | None:
    """Every class at its cheapest place, if that breaks no limit: then it is optimal and nothing is scarce."""
    classes, pools = problem.classes, problem.pools
    if problem.weights.balance or (classes.replicas > 1).any() or not len(pools):
        return None
    cheapest = arcs.usd.argmin(axis=1)
    rows = np.flatnonzero(arcs.usd[np.arange(len(classes)), cheapest] <= classes.wait_usd)
    pool_index, copies = cheapest[rows], classes.count[rows]
    relaxed = Relaxed(class_index=rows, pool_index=pool_index, copies=copies.astype(float), prices=free_prices(problem))
    return relaxed if keeps_limits(problem, relaxed, range(problem.dimensions)) else None


def keeps_limits(problem: Problem, relaxed: Relaxed, dimensions: range) -> bool:
    """Whether capacity in these dimensions, quotas and budgets hold."""
    need = problem.classes.need[relaxed.class_index] * relaxed.copies[:, None]
    for dimension in dimensions:
        used = np.bincount(relaxed.pool_index, need[:, dimension], len(problem.pools))
        if (used > problem.pools.capacity[:, dimension] * (1.0 + 1e-9)).any():
            return False
    tenants = problem.tenants
    if not len(tenants):
        return True
    tenant = problem.classes.tenant[relaxed.class_index]
    owned = tenant >= 0
    gpus = np.bincount(tenant[owned], need[owned, GPUS], len(tenants))
    rate = need[owned, GPUS] * problem.pools.usd_per_gpu_hour[relaxed.pool_index[owned]]
    usd = np.bincount(tenant[owned], rate, len(tenants))
    within = (gpus <= tenants.quota_gpus * (1.0 + 1e-9)) & (usd <= tenants.budget_usd_per_hour * (1.0 + 1e-9))
    return bool(within.all())


def relax_gpus(problem: Problem, arcs: Arcs, start_prices: FloatArray | None, limits: SolveLimits) -> Relaxed:
    """Solve the relaxation in GPUs alone (other dimensions, quotas and budgets left out) as a minimum-cost flow."""
    classes, pools = problem.classes, problem.pools
    gpus = classes.need[:, GPUS]
    rows = np.flatnonzero((gpus > 0) & (arcs.usd.min(axis=1, initial=np.inf) < np.inf) & (classes.count > 0))
    scale, units, capacity = _integer_units(gpus[rows], pools.capacity[:, GPUS])
    per_copy = classes.wait_usd[rows] / classes.replicas[rows]
    transport = Transport(
        units=units,
        copies=classes.count[rows] * classes.replicas[rows],
        unit_usd=(arcs.usd if len(rows) == len(arcs.usd) else arcs.usd[rows]) / units[:, None],
        wait_usd=per_copy / units,
        capacity=capacity,
        region_limit=classes.count[rows] * np.where(classes.replicas[rows] > 1, 1, classes.replicas[rows]),
        region=pools.region,
        regions=len(problem.regions),
    )
    start = None if start_prices is None else start_prices[:, GPUS] / scale
    keep = _running_arcs(problem, arcs, rows)
    free_class, free_pool, free_copies = _without_gpus(problem, arcs)

    def read(flow: TransportFlow) -> Relaxed:
        prices = free_prices(problem)
        prices.pool[:, GPUS] = flow.prices * scale
        return Relaxed(
            class_index=np.concatenate([rows[flow.class_index], free_class]),
            pool_index=np.concatenate([flow.pool_index, free_pool]),
            copies=np.concatenate([flow.units / units[flow.class_index], free_copies]),
            prices=prices,
        )

    if not problem.weights.balance or not compiles():
        relaxed = read(solve_transport(transport, start, limits.remaining_s, keep))
        relaxed.prices.slope[:] = balance_slope(problem, relaxed.gpus_by_pool(problem))
        return relaxed
    return _balanced(problem, arcs, transport, scale, start, limits, read)


def _balanced(
    problem: Problem,
    arcs: Arcs,
    transport: Transport,
    scale: float,
    start: FloatArray | None,
    limits: SolveLimits,
    read: Callable[[TransportFlow], Relaxed],
) -> Relaxed:
    """Solve with ever finer pieces of the balance term, first on samples: where a region ends up is soon known."""
    demand = float((transport.units * transport.copies).sum()) / scale
    segments = first_segments(problem, transport.capacity, scale, demand)
    slope: FloatArray | None = None
    for every, times in SAMPLES if worth_sampling(transport) and not limits.expired() else ():
        for _ in range(times):
            sample, share = sample_of(replace(transport, balance=segments), every)
            flow = solve_transport(sample, start, None, _NO_ARCS, slope)
            start, slope = flow.prices, flow.region_prices
            used = np.bincount(flow.pool_index, flow.units, len(problem.pools)) / scale / max(share, 1e-300)
            segments = finer_segments(problem, segments, used, scale)
    enough = BALANCED_GAP if transport.unit_usd.size <= FINE_ARCS else COARSE_GAP
    best: Relaxed | None = None
    value, bound = np.inf, -np.inf
    for _ in range(REFINEMENTS):
        flow = solve_transport(replace(transport, balance=segments), start, limits.remaining_s, _NO_ARCS, slope)
        start, slope = flow.prices, flow.region_prices
        relaxed = read(flow)
        point = relaxed.gpus_by_pool(problem)
        usd = plan_usd(problem, arcs, relaxed.class_index, relaxed.pool_index, relaxed.copies)
        value = min(value, usd)
        charged = point if slope is None else point_of_slope(problem, slope * scale)
        for tangent in (point, charged):
            prices = replace(relaxed.prices, slope=balance_slope(problem, tangent))
            proven = lagrangian_bound(problem, arcs, prices, tangent)
            if best is None or proven > bound:
                best, bound = replace(relaxed, prices=prices, tangent=tangent), proven
        if value - bound <= enough * abs(value) or limits.expired():
            break
        segments = finer_segments(problem, segments, point, scale)
    assert best is not None
    return best


def relax_all(problem: Problem, arcs: Arcs, first: Relaxed, limits: SolveLimits) -> Relaxed:
    """Solve the relaxation with every limit as a linear program, by column generation from a first guess."""
    relaxed, best = first, -np.inf
    for now, bound in linear_rounds(problem, arcs, first, limits):
        if bound > best:
            best, relaxed = bound, now
    return relaxed


def linear_rounds(problem: Problem, arcs: Arcs, first: Relaxed, limits: SolveLimits) -> Iterator[tuple[Relaxed, float]]:
    """Yield the linear program's optimum over a growing choice of arcs, and the bound its prices prove, by round."""
    if not np.isfinite(arcs.usd).any():
        return
    priced = priced_usd(problem, arcs, first.prices)
    columns = np.zeros(priced.shape, bool)
    columns[first.class_index, first.pool_index] = True
    add_cheapest(columns, priced, FIRST_COLUMNS)
    point, tangents = first.gpus_by_pool(problem), list[FloatArray]()
    if problem.weights.balance:
        tangents = [np.zeros(len(problem.pools)), problem.pools.capacity[:, GPUS], point]
    best = -np.inf
    for _ in range(MAX_ROUNDS):
        class_index, pool_index = np.nonzero(columns & np.isfinite(arcs.usd))
        program = formulate(problem, arcs, class_index, pool_index, tangents)
        answer = solve_linear(problem, program, point)
        if answer.copies is None or answer.prices is None:
            return
        used = answer.copies > 1e-9
        now = Relaxed(
            class_index=class_index[used],
            pool_index=pool_index[used],
            copies=answer.copies[used],
            prices=answer.prices,
        )
        point = now.gpus_by_pool(problem)
        now.prices.slope[:] = balance_slope(problem, point)
        bound = lagrangian_bound(problem, arcs, now.prices, point)
        best = max(best, bound)
        yield now, bound
        value = answer.bound
        if value - best <= RELAXED_GAP * max(abs(value), 1e-9) or limits.expired():
            return
        priced = priced_usd(problem, arcs, now.prices)
        worth = _worth_having(problem, priced, columns)
        if not worth.any() and not problem.weights.balance:
            return
        add_cheapest(columns, np.where(worth, priced, np.inf), ADDED_COLUMNS)
        if problem.weights.balance:
            tangents.append(point)


def _worth_having(problem: Problem, priced: FloatArray, columns: BoolArray) -> BoolArray:
    """Arcs outside the program that are cheaper, at the prices, than the dearest place a task would take inside it."""
    inside = np.sort(np.where(columns, priced, np.inf), axis=1)
    replicas = np.minimum(problem.classes.replicas, priced.shape[1])
    limit = np.minimum(inside[np.arange(len(priced)), replicas - 1], problem.classes.wait_usd)
    return np.asarray((priced < limit[:, None] - 1e-9 * (1.0 + np.abs(limit[:, None]))) & ~columns)


def _integer_units(gpus: FloatArray, capacity: FloatArray) -> tuple[float, IntArray, IntArray]:
    """Units per GPU, units of each copy, units of each pool.

    A common divisor is taken out, so classes of one size become flows of whole copies: then the flow is the plan.
    """
    whole = (gpus == np.floor(gpus)).all()
    scale = 1 if whole else UNITS_PER_GPU
    units = np.maximum(np.rint(gpus * scale), 1.0).astype(np.int64)
    divisor = max(int(np.gcd.reduce(units)) if len(units) else 1, 1)
    room = np.floor(capacity * scale / divisor * (1.0 + 1e-9)).astype(np.int64)
    return scale / divisor, units // divisor, room


def _running_arcs(problem: Problem, arcs: Arcs, rows: IntArray) -> tuple[IntArray, IntArray]:
    classes = problem.classes
    row_of = np.full(len(classes), -1)
    row_of[rows] = np.arange(len(rows))
    owner = np.repeat(np.arange(len(classes)), np.diff(classes.current_start))
    kept = (row_of[owner] >= 0) & (classes.current_pool != NOWHERE) & np.isfinite(arcs.usd[owner, classes.current_pool])
    return row_of[owner[kept]], classes.current_pool[kept]


def _without_gpus(problem: Problem, arcs: Arcs) -> tuple[IntArray, IntArray, FloatArray]:
    """Classes that need no GPU: each copy in its cheapest place, copies in the cheapest distinct regions."""
    classes, pools = problem.classes, problem.pools
    starts = np.flatnonzero(np.diff(pools.region, prepend=-1))
    ends = np.append(starts[1:], len(pools))
    found: list[tuple[int, int]] = []
    for row in np.flatnonzero((classes.need[:, GPUS] == 0) & (classes.count > 0)):
        usd, replicas = arcs.usd[row], int(classes.replicas[row])
        best = sorted(int(s + usd[s:e].argmin()) for s, e in zip(starts, ends, strict=True))
        best = sorted((p for p in best if usd[p] < np.inf), key=lambda p: (usd[p], p))[:replicas]
        if len(best) == replicas and usd[best].sum() <= classes.wait_usd[row]:
            found += [(int(row), pool) for pool in best]
    table = np.array(found, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1], classes.count[table[:, 0]].astype(float)
