"""Who asks for room now: a demand per waiting class, two where a fair share divides it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.fairshare import entitlements, tasks_within_share
from thalweg.scheduling.live.near_data import FarPools
from thalweg.scheduling.problem.model import Pools
from thalweg.scheduling.world.tasks import MIB_PER_GB, MILLI
from thalweg.scheduling.world.waiting import Turn
from thalweg.scheduling.world.world import Holding, TenantLimits, World

_NO_LIMITS = TenantLimits()
_NOTHING = Holding()


def demands_of(world: World, window: Sequence[Turn], far: FarPools | None = None) -> list[Demand]:
    """One demand per class of the window; pools may be closed to who waits for room near its data."""
    found = []
    for waiting, count, ranked in window:
        tasks = tuple(world.waiting.first(waiting, count))
        order = world.tasks[tasks[0]].order
        found.append(
            Demand(
                key=waiting.key,
                tasks=tasks,
                order=order,
                since_ms=waiting.oldest_ms,
                rank=ranked,
                far=frozenset() if far is None else far.of(waiting.index),
            )
        )
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


def _amount(holding: Holding) -> tuple[float, float, float]:
    return holding.gpu_milli / MILLI, holding.cpu_milli / MILLI, holding.memory_mib / MIB_PER_GB
