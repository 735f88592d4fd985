"""How far prices and capacities may move before an optimal plan, or a shadow price, is another.

A plan's price range is of whole tasks: the cost of every plan is linear in a pool's price, so the plan at hand is the
cheapest on one interval, whose ends are found by planning at them. A capacity's shadow price is of the linear
relaxation, as everywhere here: its optimum is convex in the capacity. One unit more and one less are told apart, as
they differ wherever a pool is just full. What may go where at all is held as it is now: price limits and budgets keep
the arcs and the rates of now, and a capacity that grows lets in no copy that was too large for the pool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from thalweg.scheduling.arrays import FloatArray
from thalweg.scheduling.problem.cost import Arcs, arc_costs
from thalweg.scheduling.problem.model import Problem
from thalweg.scheduling.problem.solution import DEFAULT_LIMITS, Solution, SolveLimits
from thalweg.scheduling.solve.formulation import Program, formulate, solve_integer
from thalweg.scheduling.solve.linear_piece import Tangent, stays_until

MOST_ARCS = 2_000
"""Arcs of a problem whose ranges are told: each range asks a few integer programs over all of them, and each such
program of this size ends in well under a second as a rule."""
SAME_USD = 1e-6
"""Plans that differ by less cost the same: the solver's own tolerance in US dollars, far below any price."""

SAME_CAPACITY = 1e-6
"""Share of a capacity below which a piece has no length: rounding of optima of millions of US dollars makes less."""


class RangesError(ValueError):
    """Ranges that cannot be told; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRange:
    """Prices between which the plan stays optimal, all else equal.

    Attributes:
        pool_index: whose price.
        class_index: the class that alone would pay it, or None where all classes do.
        usd_per_gpu_hour: now.
        low: US dollars per GPU-hour, at least 0.
        high: inf where no price makes another plan cheaper.
    """

    pool_index: int
    class_index: int | None
    usd_per_gpu_hour: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityRange:
    """What a little more and a little less of a pool is worth, and how far.

    Attributes:
        pool_index: of which pool.
        dimension: 0 is GPUs.
        capacity: now.
        more_usd: US dollars that one more unit saves.
        more_until: capacity up to which each more does; inf for any.
        fewer_usd: US dollars that one fewer unit costs.
        fewer_until: capacity down to which each fewer does; the capacity of now where there is none.
    """

    pool_index: int
    dimension: int
    capacity: float
    more_usd: float
    more_until: float
    fewer_usd: float
    fewer_until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Of pools that the plan uses, of its arcs, and of the capacities that something may use."""

    prices: tuple[PriceRange, ...]
    arcs: tuple[PriceRange, ...]
    capacities: tuple[CapacityRange, ...]


def ranges(problem: Problem, solution: Solution, effort: SolveLimits = DEFAULT_LIMITS) -> Ranges:
    """Tell the ranges of an optimal plan.

    Args:
        problem: without a balance weight, which is no price of a task and makes neither function piecewise linear.
        solution: its plan, from `solve`.
        effort: its `mip_nodes` are for each integer program.

    Raises:
        RangesError: the problem is too large or balanced, the plan is not optimal, or a program was not finished.
    """
    if problem.weights.balance:
        raise RangesError("ranges are told of plans without a balance weight: weights.balance is above 0")
    arcs = arc_costs(problem)
    class_index, pool_index = np.nonzero(np.isfinite(arcs.usd) & (problem.classes.count > 0)[:, None])
    if len(class_index) > MOST_ARCS:
        raise RangesError(f"ranges are told of problems of at most {MOST_ARCS} arcs, this one has {len(class_index)}")
    program = formulate(problem, arcs, class_index, pool_index, [])
    plans = _Plans(problem, arcs, program, solution, effort)
    used = sorted(set(solution.pool_index.tolist()))
    pairs = zip(solution.class_index.tolist(), solution.pool_index.tolist(), strict=True)
    return Ranges(
        prices=tuple(plans.range_of(pool, None) for pool in used),
        arcs=tuple(plans.range_of(pool, row) for row, pool in pairs),
        capacities=_capacity_ranges(problem, program),
    )


class _Plans:
    """The plan at hand among all plans, while the price of a pool moves."""

    def __init__(self, problem: Problem, arcs: Arcs, program: Program, solution: Solution, effort: SolveLimits) -> None:
        self._problem, self._program, self._effort = problem, program, effort
        self._waiting_usd = float((problem.classes.count * problem.classes.wait_usd).sum())
        self._per_usd = usd_per_price(problem)[program.class_index, program.pool_index]
        self._usd = arcs.usd[program.class_index, program.pool_index]
        self._copies = np.zeros(arcs.usd.shape)
        self._copies[solution.class_index, solution.pool_index] = solution.count
        self._copies = self._copies[program.class_index, program.pool_index]
        best = self._cost(self._usd, self._best(self._usd))
        mine = self._cost(self._usd, self._copies)
        if mine > best + SAME_USD:
            raise RangesError(
                f"ranges are told of optimal plans; this one costs {mine - best:.6g} USD more than the best"
            )

    def range_of(self, pool: int, row: int | None) -> PriceRange:
        """Prices of a pool, for one class or for all, between which the plan stays the cheapest."""
        program, now = self._program, float(self._problem.pools.usd_per_gpu_hour[pool])
        pays = program.pool_index == pool
        if row is not None:
            pays &= program.class_index == row
        per_usd = np.where(pays, self._per_usd, 0.0)

        # The least cost is concave in the price; what is convex is what a plan saves.
        def saved(price: float, copies: FloatArray) -> Tangent:
            usd = self._usd + (price - now) * per_usd
            return Tangent(at=price, value=-self._cost(usd, copies), slope=-float(per_usd @ copies))

        def best(price: float) -> Tangent:
            return saved(price, self._best(self._usd + (price - now) * per_usd))

        line = saved(now, self._copies)
        low = stays_until(line, 0.0, best, SAME_USD)[0]
        high = np.inf
        if line.slope < 0:
            # Beyond this price it would be cheaper to let every task wait.
            far = now + max(self._waiting_usd + line.value, 0.0) / -line.slope
            high = stays_until(line, far, best, SAME_USD)[0]
        return PriceRange(pool_index=pool, class_index=row, usd_per_gpu_hour=now, low=low, high=float(high))

    def _best(self, usd: FloatArray) -> FloatArray:
        program = self._program
        if not len(usd):
            return usd
        waiting = program.usd[len(usd) :]
        answer = solve_integer(replace(program, usd=np.concatenate([usd, waiting])), self._effort, 0.0)
        if not answer.complete or answer.copies is None:
            raise RangesError("the best plan at another price was not proven within the limit of effort")
        return np.rint(answer.copies)

    def _cost(self, usd: FloatArray, copies: FloatArray) -> float:
        """Of a plan, in sums that do not depend on the solver's."""
        classes, program = self._problem.classes, self._program
        placed = np.bincount(program.class_index, copies, len(classes))
        waiting = classes.count - placed / classes.replicas
        return float((usd * copies).sum() + (waiting * classes.wait_usd).sum())


def usd_per_price(problem: Problem) -> FloatArray:
    """[C, P] what a copy's cost rises by when its pool's GPU-hour costs one US dollar more, admitted or not."""
    pools, size = problem.pools, len(problem.pools)
    anywhere = replace(problem.classes, max_usd_per_hour=np.full(len(problem.classes), np.inf))
    one, none = (
        arc_costs(replace(problem, classes=anywhere, pools=replace(pools, usd_per_gpu_hour=np.full(size, usd)))).usd
        for usd in (1.0, 0.0)
    )
    open_ = np.isfinite(none)
    return np.where(open_, one, 0.0) - np.where(open_, none, 0.0)


def _capacity_ranges(problem: Problem, program: Program) -> tuple[CapacityRange, ...]:
    pools, dimensions = program.capacity_of
    rows = range(program.capacity_rows.start, program.capacity_rows.stop)
    needs = problem.classes.need * (problem.classes.count * problem.classes.replicas)[:, None]
    found = [
        _capacity_range(program, row, pool, dimension, float(needs[:, dimension].sum()), _slack(problem))
        for row, pool, dimension in zip(rows, pools.tolist(), dimensions.tolist(), strict=True)
    ]
    return tuple(sorted(found, key=lambda entry: (entry.pool_index, entry.dimension)))


def _slack(problem: Problem) -> float:
    """USD within which two optima of the relaxation are one: a billionth of the dearest price, as HiGHS is exact to."""
    return max(SAME_USD, 1e-9 * float(problem.classes.wait_usd.max(initial=0.0)))


def _capacity_range(
    program: Program, row: int, pool: int, dimension: int, needed: float, tolerance: float
) -> CapacityRange:
    now = float(program.limit[row])
    tangent = _optimum_at(program, row)
    here = tangent(now)
    most = max(needed, now) + 1.0  # all that is asked for, and room left over
    more_usd, more_until = _piece(here, most, tangent, tolerance)
    fewer_usd, fewer_until = _piece(here, 0.0, tangent, tolerance) if now else (0.0, now)
    return CapacityRange(
        pool_index=pool,
        dimension=dimension,
        capacity=now,
        more_usd=more_usd,
        more_until=np.inf if more_until == most else more_until,
        fewer_usd=fewer_usd,
        fewer_until=fewer_until,
    )


def _piece(here: Tangent, far: float, tangent: Callable[[float], Tangent], tolerance: float) -> tuple[float, float]:
    """What a unit is worth from here towards `far`, US dollars, and until where."""
    until, beyond = stays_until(here, far, tangent, tolerance)
    if beyond is not None and abs(until - here.at) <= SAME_CAPACITY * max(here.at, 1.0):
        # The solver told the price of the other side: the piece on this side is the one found beyond.
        here = replace(here, slope=beyond.slope)
        until, _ = stays_until(here, far, tangent, tolerance)
    return max(-here.slope, 0.0), until


def _optimum_at(program: Program, row: int) -> Callable[[float], Tangent]:
    """The relaxation's optimum and its slope, by the limit of one row."""
    from scipy.optimize import linprog

    arcs = len(program.class_index)
    # Only rows hold copies back: bounds of whole copies would not move with the capacity.
    upper = np.concatenate([np.full(arcs, np.inf), program.upper[arcs:]])
    finite = np.isfinite(program.limit)
    place = int(finite[:row].sum())

    def tangent(capacity: float) -> Tangent:
        limit = program.limit.copy()
        limit[row] = capacity
        answer = linprog(
            program.usd, A_ub=program.at_most[finite], b_ub=limit[finite], A_eq=program.equal, b_eq=program.total,
            bounds=np.column_stack([np.zeros(len(upper)), upper]), method="highs",
        )  # fmt: skip
        if answer.status != 0:
            raise RangesError(f"the relaxation at another capacity was not solved: {answer.message}")
        return Tangent(at=capacity, value=float(answer.fun), slope=float(answer.ineqlin.marginals[place]))

    return tangent
