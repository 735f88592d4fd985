"""The global problem as a linear or integer program over chosen arcs, for the HiGHS solver that scipy carries.

Variables: copies on each arc, tasks waiting of each class, and with a balance weight one cost a region, held up by
tangents of its square (Kelley 1960), so the program's value is a lower bound however few tangents there are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.problem.cost import Arcs, region_gpus
from thalweg.scheduling.problem.model import GPUS, NOWHERE, Problem
from thalweg.scheduling.problem.solution import SolveLimits
from thalweg.scheduling.solve.bound import Prices, balance_slope, free_prices

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(slots=True)
class _Rows:
    """Rows A x <= limit being collected as coordinates."""

    row: list[IntArray] = field(default_factory=list)
    column: list[IntArray] = field(default_factory=list)
    value: list[FloatArray] = field(default_factory=list)
    limit: list[FloatArray] = field(default_factory=list)
    count: int = 0

    def add(self, row: IntArray, column: IntArray, value: FloatArray, limit: FloatArray) -> slice:
        """Append len(limit) rows; `row` counts from 0 within them."""
        self.row.append(row + self.count)
        self.column.append(column)
        self.value.append(np.broadcast_to(value, row.shape))
        self.limit.append(limit)
        self.count += len(limit)
        return slice(self.count - len(limit), self.count)

    def matrix(self, columns: int) -> csr_matrix:
        from scipy.sparse import coo_matrix  # here and below late: scipy takes longer to import than a small plan

        parts = (np.concatenate(part) if part else np.zeros(0) for part in (self.value, self.row, self.column))
        value, row, column = parts
        return coo_matrix((value, (row.astype(np.int64), column.astype(np.int64))), (self.count, columns)).tocsr()


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program over arcs: columns are [arcs, waiting by class, balance cost by region, GPUs by region]."""

    class_index: IntArray
    pool_index: IntArray
    usd: FloatArray
    upper: FloatArray
    at_most: csr_matrix
    limit: FloatArray
    equal: csr_matrix
    total: FloatArray
    capacity_rows: slice
    capacity_of: tuple[IntArray, IntArray]
    quota_rows: slice
    budget_rows: slice
    tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverAnswer:
    """What the solver said.

    Attributes:
        copies: per arc, or None when it has no solution yet.
        bound: USD, lower bound on the program's optimum.
        complete: whether the optimum is proven.
        prices: of a linear program.
    """

    copies: FloatArray | None
    bound: float
    complete: bool
    prices: Prices | None = None


def formulate(
    problem: Problem, arcs: Arcs, class_index: IntArray, pool_index: IntArray, tangents: list[FloatArray]
) -> Program:
    """Write the program over the given arcs.

    Args:
        problem: in canonical order.
        arcs: its costs.
        class_index: arcs, finite ones.
        pool_index: as class_index.
        tangents: points (GPUs by pool) where the balance cost is held up.
    """
    classes, regions = problem.classes, len(problem.regions)
    number, size = len(class_index), len(classes)
    balanced = regions if problem.weights.balance else 0
    columns = number + size + 2 * balanced
    rows = _Rows()
    capacity_of = _add_capacity(problem, rows, class_index, pool_index)
    capacity_rows = slice(0, rows.count)
    quota_rows, budget_rows = _add_tenants(problem, rows, class_index, pool_index)
    _add_spread(problem, rows, class_index, pool_index)
    for point in tangents:
        _add_tangent(problem, rows, number + size, point)
    totals = _totals(problem, class_index, pool_index)
    usd = arcs.usd[class_index, pool_index]
    most = np.minimum(_whole_copies(problem, class_index, pool_index), classes.count[class_index])
    return Program(
        class_index=class_index,
        pool_index=pool_index,
        usd=np.concatenate([usd, classes.wait_usd, np.ones(balanced), np.zeros(balanced)]),
        upper=np.concatenate([most, classes.count, np.full(2 * balanced, np.inf)]),
        at_most=rows.matrix(columns),
        limit=np.concatenate(rows.limit),
        equal=totals.matrix(columns),
        total=np.concatenate(totals.limit),
        tasks=size,
        capacity_rows=capacity_rows,
        capacity_of=capacity_of,
        quota_rows=quota_rows,
        budget_rows=budget_rows,
    )


def _whole_copies(problem: Problem, class_index: IntArray, pool_index: IntArray) -> FloatArray:
    """Copies of each arc's class that fit its pool when it is empty; inf for a class that needs nothing."""
    need = problem.classes.need[class_index]
    with np.errstate(divide="ignore", invalid="ignore"):
        fit = np.floor(problem.pools.capacity[pool_index] / need * (1.0 + 1e-9))
    return np.asarray(np.where(need > 0, fit, np.inf).min(axis=1, initial=np.inf))


def _add_capacity(
    problem: Problem, rows: _Rows, class_index: IntArray, pool_index: IntArray
) -> tuple[IntArray, IntArray]:
    """No pool holds more than it has; returns the (pool, dimension) of each row."""
    need, arc = problem.classes.need[class_index], np.arange(len(class_index))
    pools, dimensions = [], []
    for dimension in range(problem.dimensions):
        uses = need[:, dimension] > 0
        used_pools, compact = np.unique(pool_index[uses], return_inverse=True)
        rows.add(compact, arc[uses], need[uses, dimension], problem.pools.capacity[used_pools, dimension])
        pools.append(used_pools)
        dimensions.append(np.full(len(used_pools), dimension))
    return np.concatenate(pools), np.concatenate(dimensions)


def _add_tenants(problem: Problem, rows: _Rows, class_index: IntArray, pool_index: IntArray) -> tuple[slice, slice]:
    """No tenant holds more GPUs than its quota, or more USD an hour than its budget; returns the rows of both."""
    tenants, tenant = problem.tenants, problem.classes.tenant[class_index]
    gpus = problem.classes.need[class_index, GPUS]
    owned = np.flatnonzero((tenant != NOWHERE) & (gpus > 0))
    rate = gpus[owned] * problem.pools.usd_per_gpu_hour[pool_index[owned]]
    quota_rows = rows.add(tenant[owned], owned, gpus[owned], tenants.quota_gpus)
    return quota_rows, rows.add(tenant[owned], owned, rate, tenants.budget_usd_per_hour)


def _totals(problem: Problem, class_index: IntArray, pool_index: IntArray) -> _Rows:
    """Copies placed and waiting are all of a class; with a balance weight, the GPUs of each region are their sum."""
    classes, region, regions = problem.classes, problem.pools.region, len(problem.regions)
    number, size = len(class_index), len(classes)
    arc, every = np.arange(number), np.arange(size)
    totals = _Rows()
    totals.add(
        np.concatenate([class_index, every]),
        np.concatenate([arc, number + every]),
        np.concatenate([np.ones(number), classes.replicas]),
        (classes.count * classes.replicas).astype(float),
    )
    if problem.weights.balance:
        of_region = np.arange(regions)
        totals.add(
            np.concatenate([region[pool_index], of_region]),
            np.concatenate([arc, number + size + regions + of_region]),
            np.concatenate([classes.need[class_index, GPUS], -np.ones(regions)]),
            np.zeros(regions),
        )
    return totals


def _add_spread(problem: Problem, rows: _Rows, class_index: IntArray, pool_index: IntArray) -> None:
    """No region holds more copies of a class than tasks of it are placed."""
    classes, regions = problem.classes, len(problem.regions)
    spread = np.flatnonzero(classes.replicas[class_index] > 1)
    key = class_index[spread] * regions + problem.pools.region[pool_index[spread]]
    group, compact = np.unique(key, return_inverse=True)
    owner = group // max(regions, 1)
    number = len(class_index)
    rows.add(
        np.concatenate([compact, np.arange(len(group))]),
        np.concatenate([spread, number + owner]),
        np.ones(len(spread) + len(group)),
        classes.count[owner].astype(float),
    )


def _add_tangent(problem: Problem, rows: _Rows, first: int, point: FloatArray) -> None:
    """For each region r: cost_r >= w·G_r·(2·v0·v − v0²), v = used_r / G_r − used / G, v0 its value at the point."""
    regions = len(problem.regions)
    used0, total = region_gpus(problem, point)
    busy, _ = region_gpus(problem, np.zeros(len(problem.pools)))
    held = np.flatnonzero(total > 0)
    fleet = max(float(total.sum()), 1e-300)
    deviation = used0[held] / total[held] - used0.sum() / fleet
    slope = 2.0 * problem.weights.balance * total[held] * deviation
    row = np.arange(len(held))
    constant = busy[held] / total[held] - busy.sum() / fleet
    rows.add(
        np.concatenate([np.repeat(row, regions), row, row]),
        np.concatenate(
            [np.tile(first + regions + np.arange(regions), len(held)), first + regions + held, first + held]
        ),
        np.concatenate([-np.repeat(slope / fleet, regions), slope / total[held], -np.ones(len(held))]),
        problem.weights.balance * total[held] * deviation**2 - slope * constant,
    )


def solve_linear(problem: Problem, program: Program, gpus_by_pool: FloatArray) -> SolverAnswer:
    """Solve the linear relaxation; prices come with it.

    Args:
        problem: the problem.
        program: its program.
        gpus_by_pool: where the balance's slope is taken for the prices.
    """
    from scipy.optimize import linprog

    finite = np.isfinite(program.limit)
    answer = linprog(
        program.usd,
        A_ub=program.at_most[finite],
        b_ub=program.limit[finite],
        A_eq=program.equal,
        b_eq=program.total,
        bounds=np.column_stack([np.zeros(len(program.upper)), program.upper]),
        method="highs",
    )
    if answer.x is None:
        return SolverAnswer(copies=None, bound=-np.inf, complete=False)
    marginal = np.zeros(len(program.limit))
    marginal[finite] = np.maximum(-answer.ineqlin.marginals, 0.0)
    prices = free_prices(problem)
    prices.pool[program.capacity_of] = marginal[program.capacity_rows]
    prices.quota[:] = marginal[program.quota_rows]
    prices.budget[:] = marginal[program.budget_rows]
    prices.slope[:] = balance_slope(problem, gpus_by_pool)
    copies = np.asarray(answer.x[: len(program.class_index)])
    return SolverAnswer(copies=copies, bound=float(answer.fun), complete=answer.status == 0, prices=prices)


def solve_integer(program: Program, limits: SolveLimits, cutoff_gap: float) -> SolverAnswer:
    """Solve the integer program within the node limit and the deadline.

    Args:
        program: see formulate.
        limits: nodes and deadline.
        cutoff_gap: relative gap at which it may stop.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    integral = np.zeros(len(program.usd))
    integral[: len(program.class_index) + program.tasks] = 1
    options: dict[str, float | int] = {"mip_rel_gap": cutoff_gap, "node_limit": limits.mip_nodes}
    if limits.remaining_s is not None:
        options["time_limit"] = max(limits.remaining_s(), 0.01)
    finite = np.isfinite(program.limit)
    constraints = [LinearConstraint(program.equal, program.total, program.total)]
    if finite.any():
        constraints.append(LinearConstraint(program.at_most[finite], -np.inf, program.limit[finite]))
    # HiGHS works to absolute tolerances near 1e-6: dollars are scaled so that those stay below any price of meaning.
    scale = 1e6 / max(float(np.abs(program.usd).max(initial=1.0)), 1e-9)
    answer = milp(
        program.usd * scale, integrality=integral, bounds=Bounds(0, program.upper), constraints=constraints,
        options=options,
    )  # fmt: skip
    dual = getattr(answer, "mip_dual_bound", None)
    bound = -np.inf if dual is None or not np.isfinite(dual) else float(dual) / scale
    # Its own tolerance is taken off, so that the bound stays true.
    bound -= 1e-9 * abs(bound) if np.isfinite(bound) else 0.0
    copies = None if answer.x is None else np.asarray(answer.x[: len(program.class_index)])
    return SolverAnswer(copies=copies, bound=bound, complete=answer.status == 0)
