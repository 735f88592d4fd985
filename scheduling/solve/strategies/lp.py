"""Strategy `lp`: the linear relaxation, rounded down, largest fractions filled up first; no search after it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from thalweg.scheduling.arrays import FloatArray
from thalweg.scheduling.problem.cost import Arcs, plan_usd
from thalweg.scheduling.problem.model import Problem
from thalweg.scheduling.problem.solution import SolveLimits, StopReason
from thalweg.scheduling.solve.bound import balance_slope, free_prices, priced_usd
from thalweg.scheduling.solve.partial_plan import PartialPlan
from thalweg.scheduling.solve.relax import Relaxed, linear_rounds, uncontended
from thalweg.scheduling.solve.strategies.strategy import Found


def lp(problem: Problem, arcs: Arcs, limits: SolveLimits, seed: int, start_prices: FloatArray | None) -> Found:
    """Place by linear programming; `seed` is not used, nothing here is random.

    A step of its trace is one linear program over a growing choice of arcs, rounded; `limits.rounds` is how many.
    """
    relaxed = uncontended(problem, arcs)
    rounds: Iterator[tuple[Relaxed, float]] = iter(())
    if relaxed is None:
        relaxed = _at_prices(problem, start_prices)
        rounds = islice(linear_rounds(problem, arcs, relaxed, limits), limits.rounds)
    plan = _rounded(problem, arcs, relaxed)
    usd = plan_usd(problem, arcs, *plan.arcs_used())
    bound = relaxed.bound(problem, arcs)
    prices, stopped, trace = relaxed.prices, StopReason.DONE, [(0, usd, bound)]
    for relaxed, proven in rounds:
        if proven > bound:
            bound, prices = proven, relaxed.prices
        now = _rounded(problem, arcs, relaxed)
        now_usd = plan_usd(problem, arcs, *now.arcs_used())
        if now_usd < usd:
            plan, usd = now, now_usd
        trace.append((len(trace), usd, bound))
    if limits.expired():
        stopped = StopReason.DEADLINE
    elif limits.rounds is not None and len(trace) > limits.rounds:
        stopped = StopReason.EFFORT
    return Found(plan=plan, bound=bound, prices=prices, stopped=stopped, trace=tuple(trace))


def _at_prices(problem: Problem, start_prices: FloatArray | None) -> Relaxed:
    """Nothing placed yet, at the prices of an earlier plan or at none."""
    prices = free_prices(problem)
    if start_prices is not None:
        prices.pool[:] = start_prices
    prices.slope[:] = balance_slope(problem, np.zeros(len(problem.pools)))
    nothing = np.zeros(0, np.int64)
    return Relaxed(class_index=nothing, pool_index=nothing, copies=np.zeros(0), prices=prices)


def _rounded(problem: Problem, arcs: Arcs, relaxed: Relaxed) -> PartialPlan:
    plan = PartialPlan(problem, arcs)
    whole = np.floor(relaxed.copies + 1e-9).astype(np.int64)
    plan.load(relaxed.class_index, relaxed.pool_index, whole)
    fraction = relaxed.copies - whole
    classes = problem.classes
    only = np.full(len(problem.pools), np.inf)
    for arc in np.lexsort((relaxed.pool_index, relaxed.class_index, -fraction)):
        row, pool = int(relaxed.class_index[arc]), int(relaxed.pool_index[arc])
        if fraction[arc] > 0.5 and classes.replicas[row] == 1 and plan.placed[row] < classes.count[row]:
            only[pool] = arcs.usd[row, pool]
            plan.insert(row, only, 1)
            only[pool] = np.inf
    plan.fill(priced_usd(problem, arcs, relaxed.prices))
    return plan
