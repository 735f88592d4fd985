"""The one door of the placement core: a problem and a strategy's name in, a plan with its bound out."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Final

import numpy as np

from thalweg.scheduling.arrays import FloatArray
from thalweg.scheduling.problem.check import check_problem
from thalweg.scheduling.problem.cost import arc_costs, plan_usd
from thalweg.scheduling.problem.model import Problem
from thalweg.scheduling.problem.order import Ordered, in_order
from thalweg.scheduling.problem.solution import (
    DEFAULT_LIMITS,
    OPTIMAL_GAP,
    Solution,
    SolveLimits,
    SolveStatus,
    StopReason,
    Unplaced,
    WarmStart,
)
from thalweg.scheduling.solve.partial_plan import PartialPlan, greedy_plan
from thalweg.scheduling.solve.strategies.strategy import Found, Strategy
from thalweg.scheduling.solve.unplaced import unplaced

STRATEGIES: Final = ("flow", "greedy", "genetic", "anneal", "lp")
"""By name. A strategy is loaded when it is asked for: a question needs one of them."""


def _strategy(name: str) -> Strategy:
    found: Strategy = getattr(import_module(f"thalweg.scheduling.solve.strategies.{name}"), name)
    return found


def solve(
    problem: Problem,
    strategy: str = "flow",
    limits: SolveLimits = DEFAULT_LIMITS,
    seed: int = 0,
    warm_start: WarmStart | None = None,
) -> Solution:
    """Place every task of a problem, or say why it waits.

    The result depends on the problem's values only: not on the order of its rows, not on any clock except the deadline
    in `limits`.

    Args:
        problem: see Problem.
        strategy: a name in STRATEGIES.
        limits: deadline and effort.
        seed: for the strategies that draw random numbers.
        warm_start: what an earlier solve of a similar problem left; it saves time, and decides only among equal plans.

    Raises:
        ProblemError: a value of the problem has no meaning.
        ValueError: no such strategy.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy is {strategy!r}; allowed: {', '.join(STRATEGIES)}")
    check_problem(problem)
    ordered = in_order(problem)
    arcs = arc_costs(ordered.problem)
    found = _strategy(strategy)(ordered.problem, arcs, limits, seed, _start_prices(ordered.problem, warm_start))
    class_index, pool_index, count = found.plan.arcs_used()
    objective = plan_usd(ordered.problem, arcs, class_index, pool_index, count)
    return _in_caller_order(ordered, found, objective, arcs.usd[class_index, pool_index], strategy)


def left_by_greedy(problem: Problem) -> tuple[Unplaced, ...]:
    """Tell what the strategy `greedy` leaves waiting and why, by class: as `solve` would, without proving a bound."""
    check_problem(problem)
    ordered = in_order(problem)
    plan = greedy_plan(ordered.problem, arc_costs(ordered.problem))
    return _waiting(ordered, plan)


def _waiting(ordered: Ordered, plan: PartialPlan) -> tuple[Unplaced, ...]:
    """What waits, by the caller's numbers of the classes."""
    waiting = unplaced(ordered.problem, plan.arcs, plan)
    moved = (replace(row, class_index=int(ordered.class_[row.class_index])) for row in waiting)
    return tuple(sorted(moved, key=lambda row: row.class_index))


def _start_prices(problem: Problem, warm_start: WarmStart | None) -> FloatArray | None:
    if warm_start is None or warm_start.prices.shape[1:] != problem.pools.capacity.shape[1:]:
        return None
    if warm_start.pool_ids == problem.pools.pool_ids:
        return warm_start.prices
    known = {pool: row for row, pool in enumerate(warm_start.pool_ids)}
    rows = np.array([known.get(pool, -1) for pool in problem.pools.pool_ids], np.int64)
    return np.where(rows[:, None] >= 0, warm_start.prices[rows], 0.0) if len(warm_start.prices) else None


def _in_caller_order(ordered: Ordered, found: Found, objective: float, usd: FloatArray, strategy: str) -> Solution:
    problem, plan = ordered.problem, found.plan
    class_index, pool_index, count = plan.arcs_used()
    outer_class, outer_pool = ordered.class_[class_index], ordered.pool[pool_index]
    order = np.lexsort((outer_pool, outer_class))
    placed = np.empty_like(plan.placed)
    placed[ordered.class_] = plan.placed
    prices = np.empty_like(found.prices.pool)
    prices[ordered.pool] = found.prices.pool
    # The bound is true and the plan is feasible, so a bound above the objective is float noise of equal numbers.
    bound = min(found.bound, objective)
    tight = objective - bound <= OPTIMAL_GAP * max(abs(objective), 1e-9)
    status = (
        SolveStatus.EMPTY if not problem.classes.count.sum() else SolveStatus.OPTIMAL if tight else SolveStatus.FEASIBLE
    )
    return Solution(
        strategy=strategy,
        status=status,
        class_index=outer_class[order],
        pool_index=outer_pool[order],
        count=count[order],
        placed=placed,
        objective=objective,
        bound=bound,
        usd=usd[order],
        prices=prices,
        unplaced=_waiting(ordered, plan),
        stopped_because=StopReason.OPTIMAL if status is SolveStatus.OPTIMAL else found.stopped,
        warm_start=WarmStart(pool_ids=problem.pools.pool_ids, prices=found.prices.pool),
        trace=found.trace,
    )
