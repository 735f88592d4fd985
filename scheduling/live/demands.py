"""Who asks for room now: a demand per waiting class, two where a fair share divides it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.live.fairshare import entitlements, tasks_within_share
from thalweg.scheduling.problem.model import Pools
from thalweg.scheduling.world.hold import HoldEstimator, as_requested
from thalweg.scheduling.world.occupancy import MICRO
from thalweg.scheduling.world.tasks import MIB_PER_GB, MILLI
from thalweg.scheduling.world.value import (
    BEYOND_SHARE_TIMES,
    RankRule,
    deadline_times,
    rank,
    value_usd_per_hour,
    wait_usd,
)
from thalweg.scheduling.world.waiting import ClassKey, Turn
from thalweg.scheduling.world.world import Holding, TenantLimits, World

_NO_LIMITS = TenantLimits()
_NOTHING = Holding()


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Tasks of one class that are planned alike.

    Attributes:
        tasks: ids, oldest first.
        order: of arrival of the first; names the demand.
        since_ms: when the oldest of the class began to wait.
        beyond_share: above what its tenant is entitled to while others want it, too.
        rank: as the queue has it; None where it is in none.
        closed: pools that are kept for others.
    """

    key: ClassKey
    tasks: tuple[TaskId, ...]
    order: int
    since_ms: int
    beyond_share: bool = False
    rank: float | None = None
    closed: frozenset[int] = frozenset()

    def wait_usd(self, now_ms: int, base_usd: float, rule: RankRule) -> float:
        """Price, within a plan, of leaving one task of it waiting."""
        own = rank_of(self.key, self.since_ms, now_ms, rule) if self.rank is None else self.rank
        lowered = own / (BEYOND_SHARE_TIMES if self.beyond_share else 1.0)
        return float(self.key.missing * wait_usd(lowered, self.key.spec.gpus, base_usd))


def delay_usd_per_hour(key: ClassKey, now_ms: int) -> float:
    """What an hour's delay of one task of a class costs now."""
    spec, copies = key.spec, max(key.missing, 1)
    given = np.nan if spec.value_usd_per_hour is None else spec.value_usd_per_hour
    slack_ms = np.inf if spec.start_by_ms is None else spec.start_by_ms - now_ms
    return float(value_usd_per_hour(spec.priority, spec.gpus * copies, given) * deadline_times(slack_ms))


def rank_of(key: ClassKey, since_ms: int, now_ms: int, rule: RankRule, hold_of: HoldEstimator = as_requested) -> float:
    """Rank of a class that is in no queue, where its data lie."""
    spec, copies = key.spec, max(key.missing, 1)
    value = delay_usd_per_hour(key, now_ms)
    return float(rank(value, max(spec.gpus, 1.0) * copies * hold_of(spec).hours, now_ms - since_ms, rule))


def demands_of(world: World, window: Sequence[Turn]) -> list[Demand]:
    """One demand per class of the window."""
    found = []
    for waiting, count, ranked in window:
        tasks = tuple(world.waiting.first(waiting, count))
        order = world.tasks[tasks[0]].order
        found.append(Demand(key=waiting.key, tasks=tasks, order=order, since_ms=waiting.oldest_ms, rank=ranked))
    return found


def split_by_share(world: World, demands: Sequence[Demand], free: Pools) -> list[Demand]:
    """Tell apart what lies within the tenants' fair shares and what beyond; everything is within while room lasts.

    Args:
        world: whose tenants hold what they hold.
        demands: in the order in which each tenant's share is to be filled.
        free: pools with their free capacity.
    """
    holders = (name for name, holding in sorted(world.holdings.items()) if holding != _NOTHING)
    names = list(dict.fromkeys([*(demand.key.spec.tenant for demand in demands), *holders]))
    if not demands or len(names) < 2:
        return list(demands)
    index = {name: row for row, name in enumerate(names)}
    held = np.array([_amount(world.holdings.get(name, _NOTHING)) for name in names]).reshape(len(names), 3)
    limits = [world.tenants.get(name, _NO_LIMITS) for name in names]
    specs = [demand.key.spec for demand in demands]
    within = tasks_within_share(
        tenant=np.array([index[spec.tenant] for spec in specs], np.int64),
        need=np.array([(spec.gpus, spec.cpus, spec.memory_gb) for spec in specs], np.float64)
        * np.array([[demand.key.missing] for demand in demands], np.float64),
        count=np.array([len(demand.tasks) for demand in demands], np.int64),
        held=held,
        capacity=free.capacity.sum(axis=0) + held.sum(axis=0),
        weight=np.array([limit.weight for limit in limits], np.float64),
        quota_gpus=np.array([limit.quota_gpus for limit in limits], np.float64),
    )
    fair_part: list[Demand] = []
    beyond_part: list[Demand] = []
    for demand, fair in zip(demands, within.tolist(), strict=True):
        if fair:
            fair_part.append(replace(demand, tasks=demand.tasks[:fair]))
        if fair < len(demand.tasks):
            beyond = demand.tasks[fair:]
            beyond_part.append(replace(demand, tasks=beyond, order=world.tasks[beyond[0]].order, beyond_share=True))
    return [*fair_part, *beyond_part]


def over_share(world: World, waiting: Sequence[Demand], free: Pools) -> frozenset[str]:
    """Name the tenants that hold more than their fair share while others wait; nobody where there is room for all.

    Args:
        world: whose tenants hold what they hold.
        waiting: who waits.
        free: pools with their free capacity.
    """
    names = sorted(
        {name for name, holding in world.holdings.items() if holding != _NOTHING}
        | {demand.key.spec.tenant for demand in waiting}
    )
    index = {name: row for row, name in enumerate(names)}
    held = np.array([_amount(world.holdings.get(name, _NOTHING)) for name in names]).reshape(len(names), 3)
    wanted = held.copy()
    for demand in waiting:
        spec = demand.key.spec
        one = np.array([spec.gpus, spec.cpus, spec.memory_gb]) * demand.key.missing
        wanted[index[spec.tenant]] += one * len(demand.tasks)
    capacity = free.capacity.sum(axis=0) + held.sum(axis=0)
    if (wanted.sum(axis=0) <= capacity).all():
        return frozenset()
    limits = [world.tenants.get(name, _NO_LIMITS) for name in names]
    share = entitlements(wanted, capacity, np.array([limit.weight for limit in limits], np.float64)).dominant_share
    with np.errstate(divide="ignore", invalid="ignore"):
        holds = np.where(held > 0, held / capacity, 0.0).max(axis=1, initial=0.0)
    return frozenset(name for name, row in index.items() if holds[row] > share[row] + 1e-9)


def left_of(world: World, tenant: str) -> tuple[float, float]:
    """GPUs and US dollars an hour that a tenant may still take."""
    limits = world.tenants.get(tenant, _NO_LIMITS)
    holding = world.holdings.get(tenant, _NOTHING)
    return (
        limits.quota_gpus - holding.gpu_milli / MILLI,
        limits.budget_usd_per_hour - holding.micro_usd_per_hour / MICRO,
    )


def _amount(holding: Holding) -> tuple[float, float, float]:
    return holding.gpu_milli / MILLI, holding.cpu_milli / MILLI, holding.memory_mib / MIB_PER_GB
