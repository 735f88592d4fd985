"""What a live micro-batch's plan is made with, and what it says: values only."""

from collections.abc import Callable
from dataclasses import dataclass, field

from thalweg.scheduling.problem.model import SPOT_INTERRUPTIONS_PER_HOUR, Weights
from thalweg.scheduling.world.tasks import Money, Share


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """What a plan may weigh and spend.

    Attributes:
        wait_usd: price of one waiting task of middle priority that needs at most one GPU.
        lost_spot_per_hour: chance that a spot node is taken away within an hour.
        fair_share: whether what is above its tenant's fair share waits at a lower price.
        most_preempted: copies that one plan may stop for tasks of higher priority; 0 turns preemption off.
        resize_every_ms: least time between two growths of a malleable task; 0 never grows one.
    """

    strategy: str = "flow"
    weights: Weights = field(default_factory=Weights)
    wait_usd: float = 1e6
    window_tasks: int = 4_096
    window_classes: int = 512
    remaining_s: Callable[[], float] | None = None
    lost_spot_per_hour: float = SPOT_INTERRUPTIONS_PER_HOUR
    fair_share: bool = True
    most_preempted: int = 32
    resize_every_ms: int = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One copy of one task on its nodes."""

    task_id: str
    copy: int
    region: str
    pool_id: str
    shares: tuple[Share, ...]
    usd: float
    usd_per_hour: float
    money: Money
    reason: str | None = None
    """Why, where it is more than "the least cost": it was let in, it starts smaller, it grew or shrank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A task that was considered and waits on, and why."""

    task_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preempted:
    """One copy that gives way to another task."""

    task_id: str
    copy: int
    for_task: str
    lost_usd: float
    """Its restart cost: the work it loses and its data that is brought again. Its new wait is weighed beside it."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPrice:
    """What one more GPU in a pool would save this plan.

    Attributes:
        saves_usd: while the tasks run that would move in; a task that would wait no longer counts with the price of
            its waiting.
        saves_usd_per_hour: the same by the hours they run on average.
    """

    pool_id: str
    saves_usd: float
    saves_usd_per_hour: float
    usd_per_gpu_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, with its price and how far from the best possible it can be at most.

    Objective and bound speak of the capacity that was free. Preemption comes after them and is weighed case by case:
    what is let in gains more than its victims lose.

    Attributes:
        objective: US dollars of placing into what was free, waiting included.
        bound: no plan for the same tasks and that capacity costs less.
        resized: malleable copies that run on with another number of workers.
        pool_prices: of pools where room is short, the most saving first.
    """

    strategy: str
    status: str
    assignments: tuple[Assignment, ...]
    held: tuple[Held, ...]
    considered: int
    objective: float
    bound: float
    preempted: tuple[Preempted, ...] = ()
    resized: tuple[Assignment, ...] = ()
    pool_prices: tuple[PoolPrice, ...] = ()

    @property
    def gap(self) -> float:
        """(objective − bound) / max(|objective|, 1e-9)."""
        return (self.objective - self.bound) / max(abs(self.objective), 1e-9)
