"""Refuse problems that have no meaning (NaN, negative prices, dangling indices) before any solver sees them."""

from __future__ import annotations

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.problem.model import GPUS, NOWHERE, Problem

MOST = 1e15
"""Largest amount of anything, and of GPUs asked for in all: in thousandths it stays within 64 bits, and its products
stay finite."""


class ProblemError(ValueError):
    """A problem that cannot be solved because a value in it has no meaning."""

    def __init__(self, where: str, index: int, seen: object, allowed: str) -> None:
        super().__init__(f"{where}[{index}] is {seen}; allowed: {allowed}")
        self.where = where
        self.index = index


def check_problem(problem: Problem) -> None:
    """Raise ProblemError for the first value that has no meaning.

    Raises:
        ProblemError: names the column, the row, the value seen and what is allowed.
    """
    pools, network, classes, tenants = problem.pools, problem.network, problem.classes, problem.tenants
    regions = len(problem.regions)
    _unique("pools.pool_ids", pools.pool_ids)
    _unique("classes.class_ids", classes.class_ids)
    _unique("regions", problem.regions)
    if classes.need.shape[1] != problem.dimensions:
        raise ProblemError(
            "classes.need", 0, f"{classes.need.shape[1]} wide", f"{problem.dimensions} as pools.capacity"
        )
    _index("pools.region", pools.region, 0, regions)
    _index("pools.gpu_model", pools.gpu_model, 0, len(problem.gpu_models))
    _at_least("pools.capacity", pools.capacity, 0.0, finite=True)
    _at_least("pools.usd_per_gpu_hour", pools.usd_per_gpu_hour, 0.0, finite=True)
    _at_least("pools.interruptions_per_hour", pools.interruptions_per_hour, 0.0, finite=True)
    _at_least("pools.busy_gpus", pools.busy_gpus, 0.0, finite=True)
    _at_least("network.rtt_ms", network.rtt_ms, 0.0)
    _at_least("network.gbps", network.gbps, 0.0)
    _at_least("network.usd_per_gb", network.usd_per_gb, 0.0)
    _at_least("classes.count", classes.count, 0, finite=True)
    _at_least("classes.need", classes.need, 0.0, finite=True)
    _at_least("classes.expected_h", classes.expected_h, 0.0, finite=True)
    _at_least("classes.checkpoint_h", classes.checkpoint_h, 0.0)
    _at_least("classes.max_rtt_ms", classes.max_rtt_ms, 0.0)
    _at_least("classes.max_usd_per_hour", classes.max_usd_per_hour, 0.0)
    _at_least("classes.replicas", classes.replicas, 1, finite=True)
    _at_least("classes.wait_usd", classes.wait_usd, 0.0, finite=True)
    _at_least("classes.item_size_gb", classes.item_size_gb, 0.0, finite=True)
    _index("classes.origin", classes.origin, NOWHERE, regions)
    _index("classes.tenant", classes.tenant, NOWHERE, len(tenants))
    _index("classes.copy_region", classes.copy_region, 0, regions)
    _index("classes.current_pool", classes.current_pool, NOWHERE, len(pools))
    _at_least("tenants.quota_gpus", tenants.quota_gpus, 0.0)
    _at_least("tenants.budget_usd_per_hour", tenants.budget_usd_per_hour, 0.0)
    for name in ("rtt", "risk", "move", "balance"):
        value = getattr(problem.weights, name)
        if not 0.0 <= value <= MOST:
            raise ProblemError(f"weights.{name}", 0, value, f"a number from 0 to {MOST:g}")
    asked = np.cumsum(classes.need[:, GPUS] * classes.count * classes.replicas)
    if asked.size and asked[-1] > MOST:
        row = int(np.searchsorted(asked, MOST, side="right"))
        raise ProblemError("classes.count", row, int(classes.count[row]), f"at most {MOST:g} GPUs asked for in all")
    copies = np.diff(classes.copy_start)
    if copies.size and copies.min() < 1:
        raise ProblemError(
            "classes.copy_start", int(copies.argmin()), "no copy", "every data item lies in at least one region"
        )


def _unique(where: str, ids: tuple[str, ...]) -> None:
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for index, name in enumerate(ids):
        if name in seen:
            raise ProblemError(where, index, repr(name), "each id once")
        seen.add(name)


def _index(where: str, column: IntArray, low: int, high: int) -> None:
    if column.size and not (low <= column.min() and column.max() < high):
        bad = int(np.flatnonzero((column < low) | (column >= high))[0])
        raise ProblemError(where, bad, int(column[bad]), f"{low} to {high - 1}")


def _at_least(where: str, column: FloatArray | IntArray, low: float, *, finite: bool = False) -> None:
    # NaN fails the comparison with low.
    if column.size and not (column.min() >= low and (not finite or column.max() <= MOST)):
        flat = column.reshape(len(column), -1)
        bad = ~(flat >= low) | ((flat > MOST) if finite else False)
        row = int(np.flatnonzero(bad.any(axis=1))[0])
        allowed = f"a number from {low:g} to {MOST:g}" if finite else f"a number >= {low:g}"
        raise ProblemError(where, row, flat[row][bad[row]][0], allowed)
