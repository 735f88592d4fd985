"""What every strategy returns: counts per class and pool, the objective, a true lower bound, and why it stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray


class SolveStatus(StrEnum):
    """What is known about a plan."""

    OPTIMAL = "optimal"  # objective equals the bound to within OPTIMAL_GAP
    FEASIBLE = "feasible"  # every hard constraint holds; the gap says how far from the bound
    EMPTY = "empty"  # nothing was asked for


class StopReason(StrEnum):
    """Why a strategy stopped."""

    OPTIMAL = "optimal"
    DEADLINE = "deadline"
    EFFORT = "effort"  # the strategy's own deterministic limit
    DONE = "done"  # nothing more to try


class Reason(StrEnum):
    """The constraint that keeps a task waiting."""

    GPU_MODEL = "gpu_model"
    RESIDENCY = "residency"
    LATENCY = "latency"
    DATA = "data"
    SPOT = "spot"
    PRICE_LIMIT = "max_usd_per_hour"
    REPLICAS = "replicas"
    QUOTA = "quota"
    BUDGET = "budget"
    CAPACITY = "capacity"
    COST = "cost"


OPTIMAL_GAP = 1e-6
"""A plan within a millionth of its bound is called optimal: below the precision of any price it is made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveLimits:
    """How much a strategy may spend.

    Attributes:
        remaining_s: callable telling the seconds left, or None for no deadline. The core owns no clock.
        mip_arcs: largest number of integer variables given to the MIP; 0 turns it off.
        mip_nodes: branch-and-bound nodes of the MIP; deterministic, unlike a time limit.
        mip_gap: relative gap above which the MIP is worth starting.
        evaluations: moves the local search looks at, some 50 ns each.
        more_evaluations: as many more where the plan is then still half a per cent from its bound; 0 for none.
        rounds: generations, sweeps or neighbourhoods of the strategies that search; None for their default.
    """

    remaining_s: Callable[[], float] | None = None
    mip_arcs: int = 3_000
    mip_nodes: int = 20_000
    mip_gap: float = OPTIMAL_GAP
    evaluations: int = 3_000_000
    more_evaluations: int = 30_000_000
    rounds: int | None = None

    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return self.remaining_s is not None and self.remaining_s() <= 0.0


DEFAULT_LIMITS = SolveLimits()
LIVE_LIMITS = SolveLimits(mip_arcs=800, mip_nodes=200, mip_gap=5e-3, evaluations=100_000, more_evaluations=0)
"""Effort of a live micro-batch: flow, rounding and a few milliseconds of local search; where half a per cent or more is
left to gain and few places are in question, an integer program of some twenty milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """What one solve leaves to the next: the prices of the pools, by id, so that pools may come and go."""

    pool_ids: tuple[str, ...]
    prices: FloatArray  # [P, D] USD per unit of capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """Tasks of one class that wait, and why.

    Attributes:
        class_index: row in the problem's classes.
        count: tasks.
        reason: the binding constraint.
        detail: a sentence with the figures.
    """

    class_index: int
    count: int
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """A plan in the index space of the problem it was solved for.

    Attributes:
        strategy: name.
        status: see Status.
        class_index: [K] rows sorted by (class, pool).
        pool_index: [K].
        count: [K] copies of that class in that pool, all positive. With replicas, no region holds more copies of a
            class than tasks of it are placed, so `spread_copies` can always give each task distinct regions.
        placed: [C] tasks placed with all their copies.
        objective: USD, exactly the formula of the design.
        bound: USD, a true lower bound on the objective of every plan for this problem.
        usd: [K] cost of one copy on that arc.
        prices: [P, D] shadow prices: USD saved per unit of capacity added, at the relaxed optimum.
        unplaced: tasks that wait, with reasons, by class.
        stopped_because: see Stopped.
        warm_start: for the next solve of a similar problem.
        trace: (step, objective, bound) of the best plan and bound so far, step 0 before the first; steps are counted,
            so a trace is as reproducible as its plan. `greedy` works in one step and has none.
    """

    strategy: str
    status: SolveStatus
    class_index: IntArray
    pool_index: IntArray
    count: IntArray
    placed: IntArray
    objective: float
    bound: float
    usd: FloatArray
    prices: FloatArray
    unplaced: tuple[Unplaced, ...]
    stopped_because: StopReason
    warm_start: WarmStart
    trace: tuple[tuple[int, float, float], ...] = field(default=())

    @property
    def gap(self) -> float:
        """(objective − bound) / max(|objective|, 1e-9)."""
        return (self.objective - self.bound) / max(abs(self.objective), 1e-9)


def spread_copies(region: IntArray, count: IntArray, tasks: int, replicas: int) -> IntArray:
    """Give each of `tasks` tasks its copies, distinct in region, from one class's pool counts.

    McNaughton's wrap-around rule: lay the copies out region by region and deal them to the tasks cyclically; since no
    region holds more than `tasks` copies, the same task never meets a region twice.

    Args:
        region: [K] region of each arc of the class.
        count: [K] copies on it; the sum is tasks × replicas.
        tasks: placed tasks.
        replicas: copies a task.

    Returns:
        [tasks, replicas] index into the K arcs, each row ordered by region.
    """
    order = np.lexsort((np.arange(len(region)), region))
    dealt = np.repeat(order, count[order])
    return dealt.reshape(replicas, tasks).T.astype(np.int64)
