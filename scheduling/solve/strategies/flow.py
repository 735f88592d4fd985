"""Strategy `flow`: minimum-cost flow, rounded down, repaired; exact for what a MIP can finish."""

from __future__ import annotations

import numpy as np

from thalweg.scheduling.arrays import FloatArray
from thalweg.scheduling.compiled import compiles
from thalweg.scheduling.problem.cost import Arcs, plan_usd
from thalweg.scheduling.problem.model import Problem
from thalweg.scheduling.problem.solution import SolveLimits
from thalweg.scheduling.solve.bound import priced_usd
from thalweg.scheduling.solve.improve import improve
from thalweg.scheduling.solve.mip import polish
from thalweg.scheduling.solve.partial_plan import PartialPlan
from thalweg.scheduling.solve.relax import Relaxed, keeps_limits, relax_all, relax_gpus, uncontended
from thalweg.scheduling.solve.strategies.strategy import Found

LINEAR_ARCS = 4_000
"""Up to so many arcs a balanced problem goes to the linear program as well: milliseconds, and a tighter bound."""
WORTH_SEARCHING = 5e-3
"""Gap above which the local search goes on: a million tasks end below it at once, thousands of single tasks do not."""


def flow(problem: Problem, arcs: Arcs, limits: SolveLimits, seed: int, start_prices: FloatArray | None) -> Found:
    """Place by minimum-cost flow; `seed` is not used, nothing here is random.

    Its trace has three steps: rounding, local search, integer program.
    """
    relaxed, bound = relax(problem, arcs, limits, start_prices)
    plan = rounded(problem, arcs, relaxed)
    trace = [(0, plan_usd(problem, arcs, *plan.arcs_used()), bound)]
    plan = improve(plan, limits.evaluations)
    usd = plan_usd(problem, arcs, *plan.arcs_used())
    if usd - bound > WORTH_SEARCHING * abs(usd) and limits.more_evaluations and not limits.expired():
        plan = improve(plan, limits.more_evaluations)
        usd = plan_usd(problem, arcs, *plan.arcs_used())
    trace.append((1, usd, bound))
    done = polish(problem, arcs, relaxed, plan, bound, limits)
    trace.append((2, done.objective, done.bound))
    return Found(plan=done.plan, bound=done.bound, prices=relaxed.prices, stopped=done.stopped, trace=tuple(trace))


def relax(problem: Problem, arcs: Arcs, limits: SolveLimits, start_prices: FloatArray | None) -> tuple[Relaxed, float]:
    """The relaxed optimum, by the cheapest means that honours every limit, and the lower bound it proves."""
    relaxed = uncontended(problem, arcs) or relax_gpus(problem, arcs, start_prices, limits)
    bound = relaxed.bound(problem, arcs)
    if keeps_limits(problem, relaxed, range(problem.dimensions)) and (
        not problem.weights.balance or (compiles() and arcs.usd.size > LINEAR_ARCS)
    ):
        return relaxed, bound
    relaxed = relax_all(problem, arcs, relaxed, limits)
    return relaxed, max(bound, relaxed.bound(problem, arcs))


def rounded(problem: Problem, arcs: Arcs, relaxed: Relaxed) -> PartialPlan:
    """Round the relaxed copies down, then insert what is left over at the relaxed prices."""
    plan = PartialPlan(problem, arcs)
    whole = np.floor(relaxed.copies + 1e-9).astype(np.int64)
    plan.load(relaxed.class_index, relaxed.pool_index, whole)
    plan.fill(priced_usd(problem, arcs, relaxed.prices))
    return plan
