"""A live plan as values: the settings it is made with, and what it decides."""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from thalweg.scheduling.arrays import IntArray
from thalweg.scheduling.ids import PoolId, RegionId, TaskId
from thalweg.scheduling.problem.model import SPOT_INTERRUPTIONS_PER_HOUR, Problem, Weights
from thalweg.scheduling.world.tasks import Money, Share
from thalweg.scheduling.world.value import DEFAULT_RULE, RankRule


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """How a plan is made.

    Attributes:
        strategy: name of the solver.
        weights: prices of what is not money.
        wait_usd: price, within a plan, of one task left waiting that needs at most one GPU, at the middle rank.
        rule: in which order what waits is looked at.
        window_tasks: most tasks that one plan considers.
        window_classes: most classes that one plan considers.
        remaining_s: tells the seconds left until the plan must be there; None for no deadline.
        lost_spot_per_hour: chance that a spot node is taken away within an hour.
        fair_share: whether a tenant's tasks beyond its fair share wait at a lower price.
        most_preempted: copies that one plan may stop for tasks of higher priority; 0 stops none.
        resize_every_ms: an elastic task grows again after this time at the earliest; 0 lets none grow.
    """

    strategy: str = "flow"
    weights: Weights = field(default_factory=Weights)
    wait_usd: float = 1e6
    rule: RankRule = DEFAULT_RULE
    window_tasks: int = 4_096
    window_classes: int = 512
    remaining_s: Callable[[], float] | None = None
    lost_spot_per_hour: float = SPOT_INTERRUPTIONS_PER_HOUR
    fair_share: bool = True
    most_preempted: int = 32
    resize_every_ms: int = 60_000


class CopyAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """One copy of one task on its nodes."""

    task_id: TaskId
    copy: int
    region: RegionId
    pool_id: PoolId
    shares: tuple[Share, ...]
    usd: float
    usd_per_hour: float
    money: Money
    reason: str | None = None
    """Why it is there, where the least cost is not all: others gave way, it starts smaller, it grew, it shrank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftWaiting:
    """A task that this plan considered and did not place, with the reason."""

    task_id: TaskId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preempted:
    """One copy that is stopped for a more important task."""

    task_id: TaskId
    copy: int
    for_task: TaskId
    lost_usd: float
    """What stopping it loses: the work done so far, and bringing its data again; not the price of its new wait."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPrice:
    """What one more GPU in a pool would save.

    Attributes:
        saves_usd: in all, over the run of the task that would move in.
        saves_usd_per_hour: the same an hour. If it waits now, what its delay costs by GPU and hour.
        usd_per_gpu_hour: what a GPU of the pool costs.
    """

    pool_id: PoolId
    saves_usd: float
    saves_usd_per_hour: float
    usd_per_gpu_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IntoFree:
    """Copies that were placed into free capacity, and the problem of placing them.

    Attributes:
        problem: with the capacity that was free.
        row: [K] class of each copy.
        pool: [K] where it is placed.
    """

    problem: Problem
    row: IntArray
    pool: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, what it costs, and how much less the best plan could cost at most.

    Objective and bound are about placing into capacity that was free. Preemption comes afterwards and is in neither: it
    is weighed case by case, and stops copies only for a task that gains more than they lose.

    Attributes:
        strategy: name of the solver.
        status: what the solver knows of its plan (`scheduling.problem.solution`).
        assignments: copies to start.
        held: tasks that wait on, with reasons.
        considered: tasks looked at.
        objective: US dollars of what is placed into free capacity, and the prices of waiting of what waits on.
        bound: no plan for the same tasks and the same free capacity costs less.
        preempted: copies to stop, so that others can start.
        resized: elastic copies that run on with another number of workers.
        into_free: what is placed into free capacity, as it was asked for; None where nothing was.
    """

    strategy: str
    status: str
    assignments: tuple[CopyAssignment, ...]
    held: tuple[LeftWaiting, ...]
    considered: int
    objective: float
    bound: float
    preempted: tuple[Preempted, ...] = ()
    resized: tuple[CopyAssignment, ...] = ()
    into_free: IntoFree | None = field(default=None, compare=False)

    @property
    def gap(self) -> float:
        """(objective − bound) / max(|objective|, 1e-9)."""
        return (self.objective - self.bound) / max(abs(self.objective), 1e-9)
