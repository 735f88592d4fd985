"""Preemption: running tasks give way to a more important one that nothing else can place, and never in a chain.

Rules, each of which a test holds it to: only tasks of strictly lower priority that agreed to it; only where it helps,
that is, the waiting task then fits and its waiting costs more than all that is lost; the cheapest victims, none of
them needless; and no victim displaces anybody: it waits, or a later plan places it in what is free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduling.arrays import BoolArray, FloatArray, IntArray
from scheduling.cost import arc_costs
from scheduling.model import GPUS, Problem
from scheduling.solution import Solution


@dataclass(frozen=True, slots=True, kw_only=True)
class Preemption:
    """One task let in at the cost of others.

    Attributes:
        class_index: the class of the task that is let in.
        pool_index: where.
        victims: (class, copies) that leave that pool.
        lost_usd: what the victims lose.
        gained_usd: what waiting of the task would have cost, less its place.
    """

    class_index: int
    pool_index: int
    victims: tuple[tuple[int, int], ...]
    lost_usd: float
    gained_usd: float


def preempt(
    problem: Problem, solution: Solution, preemptible: BoolArray, lost_usd: FloatArray, budget: int
) -> tuple[Preemption, ...]:
    """Find preemptions for the tasks that wait in a solution, the most important first.

    Args:
        problem: as solved.
        solution: of it; its placed copies of other classes are the possible victims.
        preemptible: [C].
        lost_usd: [C] what ending one running copy loses: work since its last checkpoint and its new wait.
        budget: most tasks let in.
    """
    usd = arc_costs(problem).usd
    counts = np.zeros((len(problem.classes), len(problem.pools)), np.int64)
    counts[solution.class_index, solution.pool_index] = solution.count
    free = problem.pools.capacity.copy()
    np.subtract.at(free, solution.pool_index, problem.classes.need[solution.class_index] * solution.count[:, None])
    classes = problem.classes
    newcomers = np.zeros(len(classes), bool)
    waiting = [entry for entry in solution.unplaced if classes.replicas[entry.class_index] == 1]
    waiting.sort(key=lambda e: (-classes.priority[e.class_index], classes.class_ids[e.class_index]))
    found: list[Preemption] = []
    for entry in waiting:
        row = entry.class_index
        for _ in range(min(entry.count, budget - len(found))):
            # A class that was let in is no victim later, and victims do not come back here: no cascade.
            may = preemptible & (classes.priority < classes.priority[row]) & ~newcomers
            made = _cheapest(problem, usd[row], row, counts, free, may, lost_usd)
            if made is None:
                break
            for victim, copies in made.victims:
                counts[victim, made.pool_index] -= copies
                free[made.pool_index] += classes.need[victim] * copies
            free[made.pool_index] -= classes.need[row]
            newcomers[row] = True
            found.append(made)
    return tuple(found)


def _cheapest(
    problem: Problem, usd: FloatArray, row: int, counts: IntArray, free: FloatArray, may: BoolArray, lost: FloatArray
) -> Preemption | None:
    """The pool where letting one task of the class in costs least beyond what it saves."""
    classes = problem.classes
    best: Preemption | None = None
    for pool in np.flatnonzero(np.isfinite(usd)):
        gained = float(classes.wait_usd[row] - usd[pool])
        victims = _victims(classes.need, classes.need[row] - free[pool], counts[:, pool], may, lost)
        if victims is None:
            continue
        price = float(sum(lost[victim] * copies for victim, copies in victims))
        if price >= gained or (best is not None and gained - price <= best.gained_usd - best.lost_usd + 1e-9):
            continue
        best = Preemption(class_index=row, pool_index=int(pool), victims=victims, lost_usd=price, gained_usd=gained)
    return best


def _victims(
    need: FloatArray, short: FloatArray, counts: IntArray, may: BoolArray, lost: FloatArray
) -> tuple[tuple[int, int], ...] | None:
    """The cheapest copies whose leaving covers what is short; None when nothing does.

    In GPUs alone this is a covering knapsack and solved exactly; further dimensions are then covered by the cheapest
    per unit. Victims that turn out needless are spared.
    """
    short = np.maximum(short, 0.0)
    if not (short > 1e-9).any():
        return ()
    candidates = np.flatnonzero(may & (counts > 0))
    if not candidates.size or (need[candidates].T @ counts[candidates] < short - 1e-9).any():
        return None
    taken: dict[int, int] = {}
    covered = np.zeros_like(short)
    for victim in _cover(need[candidates, GPUS], lost[candidates], counts[candidates], float(short[GPUS])):
        row = int(candidates[victim])
        taken[row] = taken.get(row, 0) + 1
        covered = covered + need[row]
    while (covered < short - 1e-9).any():
        lack = np.maximum(short - covered, 0.0)
        helps = (need[candidates] * (lack > 1e-9)).sum(axis=1)
        left = counts[candidates] - np.array([taken.get(int(c), 0) for c in candidates])
        ratio = np.where((helps > 0) & (left > 0), lost[candidates] / np.maximum(helps, 1e-300), np.inf)
        row = int(candidates[int(ratio.argmin())])
        taken[row] = taken.get(row, 0) + 1
        covered = covered + need[row]
    for row in sorted(taken, key=lambda r: (-lost[r], r)):
        while taken[row] and (covered - need[row] >= short - 1e-9).all():
            taken[row] -= 1
            covered = covered - need[row]
    return tuple((row, copies) for row, copies in sorted(taken.items()) if copies)


def _cover(gpus: FloatArray, lost: FloatArray, counts: IntArray, short: float) -> list[int]:
    """Cheapest multiset of items with at least `short` GPUs, by dynamic programming over thousandths or whole GPUs."""
    if short <= 1e-9:
        return []
    scale = 1 if (gpus == np.floor(gpus)).all() else 1000
    target = int(np.ceil(short * scale - 1e-6))
    items = [
        (index, int(np.rint(gpus[index] * scale)))
        for index in range(len(gpus))
        for _ in range(int(min(counts[index], np.ceil(short / max(gpus[index], 1e-9)))))
        if gpus[index] > 0
    ]
    cost = np.full(target + 1, np.inf)
    cost[0] = 0.0
    choice = np.full((len(items) + 1, target + 1), -1, np.int64)
    for step, (index, size) in enumerate(items, start=1):
        reach = np.maximum(np.arange(target + 1) - size, 0)
        other = cost[reach] + lost[index]
        better = other < cost - 1e-12
        choice[step] = np.where(better, reach, -1)
        cost = np.where(better, other, cost)
    chosen, at = [], target
    if not np.isfinite(cost[target]):
        return []
    for step in range(len(items), 0, -1):
        if choice[step, at] >= 0:
            chosen.append(items[step - 1][0])
            at = int(choice[step, at])
    return chosen
