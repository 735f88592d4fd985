"""When a waiting task will probably start: an estimate with an 80 % interval.

Running times are drawn log-normally around what was expected, given how long each task runs already; what ends frees
its GPUs, what waits ahead takes them first, and the task starts where its need is free first. The spread of durations
is an argument, measured by the caller from finished tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduling.arrays import BoolArray, FloatArray, IntArray

DRAWS = 200
"""Sampled futures: the 10th and 90th percentile of 200 are known to about 2 percentage points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartEstimate:
    """Hours from now; inf when in that share of the futures it never starts."""

    p10_h: float
    p50_h: float
    p90_h: float


def estimate_start(
    *,
    need_gpus: float,
    usable: BoolArray,
    free_gpus: FloatArray,
    running_pool: IntArray,
    running_gpus: FloatArray,
    elapsed_h: FloatArray,
    expected_h: FloatArray,
    ahead_gpus: float,
    spread: float = 1.0,
    seed: int = 0,
) -> StartEstimate:
    """Estimate the start of one task.

    Args:
        need_gpus: its gang.
        usable: [P] pools it may use.
        free_gpus: [P] free now.
        running_pool: [K] pool of each running task.
        running_gpus: [K].
        elapsed_h: [K] hours it runs already.
        expected_h: [K] hours it was expected to run in all.
        ahead_gpus: GPUs that waiting tasks before it will take, shared over the usable pools by their size.
        spread: standard deviation of the logarithm of true over expected hours.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    mine = np.flatnonzero(usable[running_pool]) if len(running_pool) else np.zeros(0, np.int64)
    total = free_gpus + np.bincount(running_pool, running_gpus, len(free_gpus))
    size = np.where(usable, total, 0.0)
    ahead = ahead_gpus * size / max(float(size.sum()), 1e-300)
    # A task that already outlived a draw is drawn from what is left above: the log-normal given that it still runs.
    median = np.maximum(expected_h[mine], 1e-6) * np.exp(-(spread**2) / 2)
    starts = np.full(DRAWS, np.inf)
    for draw in range(DRAWS):
        lasts = median * np.exp(spread * rng.standard_normal(len(mine)))
        late = lasts < elapsed_h[mine]
        lasts[late] = elapsed_h[mine][late] * np.exp(spread * np.abs(rng.standard_normal(int(late.sum()))))
        ends = lasts - elapsed_h[mine]
        order = np.lexsort((ends, running_pool[mine]))
        pool, end, gpus = running_pool[mine][order], ends[order], running_gpus[mine][order]
        first = np.searchsorted(pool, np.arange(len(free_gpus)))
        freed = np.cumsum(gpus)
        before = np.concatenate([[0.0], freed])[first]
        there = free_gpus[pool] + freed - before[pool] >= need_gpus + ahead[pool] - 1e-9
        now = usable & (free_gpus >= need_gpus + ahead - 1e-9)
        starts[draw] = 0.0 if now.any() else float(end[there].min(initial=np.inf))
    starts.sort()
    p10, p50, p90 = (float(starts[int(q * (DRAWS - 1))]) for q in (0.1, 0.5, 0.9))
    return StartEstimate(p10_h=p10, p50_h=p50, p90_h=p90)
