"""Shadow prices of pools: what one more GPU somewhere would save, from the relaxed optimum, and the check by planning.

A price is what the whole plan would cost less; divided by how long the tasks there run it is a rate, to be held against
what a GPU there costs an hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from thalweg.scheduling.ids import PoolId
from thalweg.scheduling.live.live_plan import PoolPrice as LivePrice
from thalweg.scheduling.problem.cost import arc_costs
from thalweg.scheduling.problem.model import GPUS, Problem
from thalweg.scheduling.problem.solution import DEFAULT_LIMITS, Solution, SolveLimits
from thalweg.scheduling.solve.solve import solve


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPrice:
    """What one more unit in a pool is worth.

    Attributes:
        pool: id.
        dimension: 0 is GPUs.
        saves_usd: over the run of the tasks that would move in.
        saves_usd_per_hour: the same, by the hours the tasks of the pool run on average.
        usd_per_gpu_hour: what a GPU there costs.
    """

    pool: PoolId
    dimension: int
    saves_usd: float
    saves_usd_per_hour: float
    usd_per_gpu_hour: float


def shadow_prices(problem: Problem, solution: Solution) -> tuple[ShadowPrice, ...]:
    """Every scarce pool and dimension, the most saving an hour first."""
    classes, pools = problem.classes, problem.pools
    gpus = solution.count * classes.need[solution.class_index, GPUS]
    hours = gpus * classes.expected_h[solution.class_index]
    held = np.bincount(solution.pool_index, gpus, len(pools))
    mean_h = np.bincount(solution.pool_index, hours, len(pools)) / np.maximum(held, 1e-300)
    whole = float(hours.sum() / max(gpus.sum(), 1e-300)) or 1.0
    mean_h = np.where((held > 0) & (mean_h > 0), mean_h, whole)
    found = [
        ShadowPrice(
            pool=PoolId(pools.pool_ids[p]),
            dimension=int(d),
            saves_usd=float(solution.prices[p, d]),
            saves_usd_per_hour=float(solution.prices[p, d] / mean_h[p]),
            usd_per_gpu_hour=float(pools.usd_per_gpu_hour[p]),
        )
        for p, d in zip(*np.nonzero(solution.prices > 0), strict=True)
    ]
    return tuple(sorted(found, key=lambda entry: (-entry.saves_usd_per_hour, entry.pool, entry.dimension)))


def saving_of(
    problem: Problem, solution: Solution, pool_index: int, gpus: float, limits: SolveLimits = DEFAULT_LIMITS
) -> float:
    """USD that so many GPUs more in a pool would really save: the difference of two plans."""
    capacity = problem.pools.capacity.copy()
    capacity[pool_index, GPUS] += gpus
    richer = replace(problem, pools=replace(problem.pools, capacity=capacity))
    return solution.objective - solve(richer, solution.strategy, limits, warm_start=solution.warm_start).objective


MOST_PRICES = 16
"""Pools named per plan: those where a GPU more would save most."""


def live_prices(
    problem: Problem | None, solution: Solution | None, stuck: Problem | None, delay_usd_per_hour: Sequence[float] = ()
) -> tuple[LivePrice, ...]:
    """What one more GPU in each pool would save a live plan, the most saving an hour first.

    Where something waits, a GPU-hour is worth the delay that it would save: that of the task of the most value by GPU.
    Where nothing does, it is worth what the relaxed optimum says of those that competed for the cheaper place, and no
    more than the most that a delay costs anywhere.

    Args:
        problem: what was solved, if anything.
        solution: of it.
        stuck: the highest-ranked classes that wait, with pools at their whole capacity.
        delay_usd_per_hour: [C] of one task of each of these.
    """
    best: dict[PoolId, LivePrice] = {}
    most = np.inf
    if stuck is not None and len(stuck.classes):
        gpus = stuck.classes.need[:, GPUS] * stuck.classes.replicas
        value = np.where(gpus > 0, np.asarray(delay_usd_per_hour, np.float64) / np.maximum(gpus, 1e-9), 0.0)
        most = float(value.max())
        worth = np.where(np.isfinite(arc_costs(stuck).usd), value[:, None], 0.0)
        for pool in np.flatnonzero((worth > 0).any(axis=0)).tolist():
            row = int(worth[:, pool].argmax())
            pool_id, usd = PoolId(stuck.pools.pool_ids[pool]), float(worth[row, pool])
            best[pool_id] = LivePrice(
                pool_id=pool_id,
                saves_usd=usd * float(stuck.classes.expected_h[row]),
                saves_usd_per_hour=usd,
                usd_per_gpu_hour=float(stuck.pools.usd_per_gpu_hour[pool]),
            )
    if problem is not None and solution is not None:
        for price in shadow_prices(problem, solution):
            if price.dimension == GPUS and price.pool not in best:
                usd = min(price.saves_usd_per_hour, most)
                best[price.pool] = LivePrice(
                    pool_id=price.pool,
                    saves_usd=price.saves_usd * usd / price.saves_usd_per_hour,
                    saves_usd_per_hour=usd,
                    usd_per_gpu_hour=price.usd_per_gpu_hour,
                )
    ordered = sorted(best.values(), key=lambda price: (-price.saves_usd_per_hour, price.pool_id))
    return tuple(ordered[:MOST_PRICES])
