"""Strategy `flow`: minimum-cost flow, rounded down, repaired; exact for what a MIP can finish."""

from __future__ import annotations

import numpy as np

from scheduling.arrays import FloatArray
from scheduling.bound import lagrangian_bound, priced_usd
from scheduling.cost import Arcs
from scheduling.draft import Draft
from scheduling.model import Problem
from scheduling.relax import Relaxed, relax_gpus, uncontended
from scheduling.solution import Limits, Stopped
from scheduling.strategy import Found


def flow(problem: Problem, arcs: Arcs, limits: Limits, seed: int, start_prices: FloatArray | None) -> Found:
    """Place by minimum-cost flow; `seed` is not used, nothing here is random."""
    relaxed = uncontended(problem, arcs) or relax_gpus(problem, arcs, start_prices, limits)
    bound = lagrangian_bound(problem, arcs, relaxed.prices, relaxed.gpus_by_pool(problem))
    draft = rounded(problem, arcs, relaxed)
    return Found(draft=draft, bound=bound, prices=relaxed.prices, stopped=Stopped.DONE)


def rounded(problem: Problem, arcs: Arcs, relaxed: Relaxed) -> Draft:
    """Round the relaxed copies down, then insert what is left over at the relaxed prices."""
    draft = Draft(problem, arcs)
    whole = np.floor(relaxed.copies + 1e-9).astype(np.int64)
    draft.load(relaxed.class_index, relaxed.pool_index, whole)
    draft.fill(priced_usd(problem, arcs, relaxed.prices))
    return draft
