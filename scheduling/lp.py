"""Strategy `lp`: the linear relaxation, rounded down, largest fractions filled up first; no search after it."""

from __future__ import annotations

import numpy as np

from scheduling.arrays import FloatArray
from scheduling.bound import lagrangian_bound, priced_usd
from scheduling.cost import Arcs
from scheduling.draft import Draft
from scheduling.flow import relax
from scheduling.model import Problem
from scheduling.relax import Relaxed, relax_all
from scheduling.solution import Limits, Stopped
from scheduling.strategy import Found


def lp(problem: Problem, arcs: Arcs, limits: Limits, seed: int, start_prices: FloatArray | None) -> Found:
    """Place by linear programming; `seed` is not used, nothing here is random."""
    relaxed, bound = relax(problem, arcs, limits, start_prices)
    if relaxed.prices.pool.any():
        relaxed = relax_all(problem, arcs, relaxed, limits)
        bound = max(bound, lagrangian_bound(problem, arcs, relaxed.prices, relaxed.gpus_by_pool(problem)))
    return Found(draft=_rounded(problem, arcs, relaxed), bound=bound, prices=relaxed.prices, stopped=Stopped.DONE)


def _rounded(problem: Problem, arcs: Arcs, relaxed: Relaxed) -> Draft:
    draft = Draft(problem, arcs)
    whole = np.floor(relaxed.copies + 1e-9).astype(np.int64)
    draft.load(relaxed.class_index, relaxed.pool_index, whole)
    fraction = relaxed.copies - whole
    classes = problem.classes
    only = np.full(len(problem.pools), np.inf)
    for arc in np.lexsort((relaxed.pool_index, relaxed.class_index, -fraction)):
        row, pool = int(relaxed.class_index[arc]), int(relaxed.pool_index[arc])
        if fraction[arc] > 0.5 and classes.replicas[row] == 1 and draft.placed[row] < classes.count[row]:
            only[pool] = arcs.usd[row, pool]
            draft.insert(row, only, 1)
            only[pool] = np.inf
    draft.fill(priced_usd(problem, arcs, relaxed.prices))
    return draft
