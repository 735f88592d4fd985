"""Strategy `greedy`: each class in turn takes the cheapest places that are left, the most worth per GPU first."""

from __future__ import annotations

from thalweg.scheduling.arrays import FloatArray
from thalweg.scheduling.problem.cost import Arcs
from thalweg.scheduling.problem.model import Problem
from thalweg.scheduling.problem.solution import SolveLimits, StopReason
from thalweg.scheduling.solve.partial_plan import greedy_plan
from thalweg.scheduling.solve.strategies.flow import relax
from thalweg.scheduling.solve.strategies.strategy import Found


def greedy(problem: Problem, arcs: Arcs, limits: SolveLimits, seed: int, start_prices: FloatArray | None) -> Found:
    """Place greedily; the bound is that of `flow`. `seed` is not used, nothing here is random."""
    plan = greedy_plan(problem, arcs)
    relaxed, bound = relax(problem, arcs, limits, start_prices)
    return Found(plan=plan, bound=bound, prices=relaxed.prices, stopped=StopReason.DONE)
