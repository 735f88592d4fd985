"""Strategy `greedy`: each class in turn takes the cheapest places that are left, the most worth per GPU first."""

from __future__ import annotations

from thalweg.scheduling.arrays import FloatArray
from thalweg.scheduling.problem.cost import Arcs
from thalweg.scheduling.problem.model import Problem
from thalweg.scheduling.problem.solution import Limits, Stopped
from thalweg.scheduling.solve.draft import Draft
from thalweg.scheduling.solve.flow import relax
from thalweg.scheduling.solve.strategy import Found


def greedy(problem: Problem, arcs: Arcs, limits: Limits, seed: int, start_prices: FloatArray | None) -> Found:
    """Place greedily; the bound is that of `flow`. `seed` is not used, nothing here is random."""
    draft = greedy_draft(problem, arcs)
    relaxed, bound = relax(problem, arcs, limits, start_prices)
    return Found(draft=draft, bound=bound, prices=relaxed.prices, stopped=Stopped.DONE)


def greedy_draft(problem: Problem, arcs: Arcs) -> Draft:
    """The greedy plan."""
    draft = Draft(problem, arcs)
    draft.fill(arcs.usd)
    return draft
