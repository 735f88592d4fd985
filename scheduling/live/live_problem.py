"""The live world's waiting tasks as one placement problem: a row per class, two where a fair share divides it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.live.elsewhere import Elsewhere
from thalweg.scheduling.live.fairshare import tasks_within_share
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.problem.model import GPUS, NOWHERE, Classes, Pools, Problem, Tenants, make_classes
from thalweg.scheduling.world.occupancy import MICRO
from thalweg.scheduling.world.tasks import MIB_PER_GB, MILLI, TaskSpec
from thalweg.scheduling.world.urgency import BEYOND_SHARE_DOUBLINGS, NO_DEADLINE_MS, urgency, wait_usd
from thalweg.scheduling.world.waiting import ClassKey, WaitingClass
from thalweg.scheduling.world.world import Holding, TenantLimits, World

HOUR_S = 3_600.0
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
    """

    key: ClassKey
    tasks: tuple[TaskId, ...]
    order: int
    since_ms: int
    beyond_share: bool = False

    def wait_usd(self, now_ms: int, base_usd: float) -> float:
        """Price of leaving one task of it waiting."""
        spec = self.key.spec
        start_by_ms = NO_DEADLINE_MS if spec.start_by_ms is None else spec.start_by_ms
        doublings = urgency(spec.priority, now_ms - self.since_ms, start_by_ms - now_ms)
        lowered = doublings - BEYOND_SHARE_DOUBLINGS * self.beyond_share
        return float(self.key.missing * wait_usd(lowered, spec.gpus, base_usd))


def demands_of(world: World, window: Sequence[tuple[WaitingClass, int]]) -> list[Demand]:
    """One demand per class of the window."""
    found = []
    for waiting, count in window:
        tasks = tuple(world.waiting.first(waiting, count))
        order = world.tasks[tasks[0]].order
        found.append(Demand(key=waiting.key, tasks=tasks, order=order, since_ms=waiting.oldest_ms))
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


def live_problem(
    world: World, demands: Sequence[Demand], settings: PlanSettings, now_ms: int, pools: Pools | None = None
) -> Problem:
    """Make the problem of placing these demands.

    Args:
        world: nodes, network, tenants.
        demands: one row each, in this order.
        settings: weights and prices.
        now_ms: ages and deadlines are counted from it.
        pools: default: with what is free now.
    """
    pools = world.pools() if pools is None else pools
    hazard = np.where(pools.spot, settings.lost_spot_per_hour, 0.0)
    tenants, of_demand = _tenants(world, demands)
    return Problem(
        regions=world.region_names,
        gpu_models=world.gpu_models,
        pools=replace(pools, interruptions_per_hour=hazard),
        network=world.network(),
        classes=replace(_classes(world, demands, settings, now_ms), tenant=of_demand),
        weights=settings.weights,
        tenants=tenants,
    )


def whole_pools(world: World, free: Pools | None = None) -> Pools:
    """Pools with all that their ready nodes have, taken or not; closed regions have none."""
    nodes = world.nodes
    open_ = nodes.ready & world.open_pools()[nodes.pool]
    columns = (nodes.gpus, nodes.cpu_milli / MILLI, nodes.memory_mib / MIB_PER_GB)
    capacity = [np.bincount(nodes.pool, np.where(open_, column, 0.0), len(nodes.pools)) for column in columns]
    return replace(free or world.pools(), capacity=np.stack(capacity, axis=1))


def left_of(world: World, tenant: str) -> tuple[float, float]:
    """GPUs and US dollars an hour that a tenant may still take."""
    limits = world.tenants.get(tenant, _NO_LIMITS)
    holding = world.holdings.get(tenant, _NOTHING)
    return (
        limits.quota_gpus - holding.gpu_milli / MILLI,
        limits.budget_usd_per_hour - holding.micro_usd_per_hour / MICRO,
    )


def _tenants(world: World, demands: Sequence[Demand]) -> tuple[Tenants, IntArray]:
    """What tenants with limits may still take, and each demand's tenant; NOWHERE where it has none."""
    of_demand = [demand.key.spec.tenant for demand in demands]
    limited = sorted(set(of_demand) & world.tenants.keys())
    index = {name: row for row, name in enumerate(limited)}
    left = np.array([left_of(world, name) for name in limited], np.float64).reshape(len(limited), 2).clip(min=0.0)
    return (
        Tenants(tenant_ids=tuple(limited), quota_gpus=left[:, 0], budget_usd_per_hour=left[:, 1]),
        np.array([index.get(name, NOWHERE) for name in of_demand], np.int64),
    )


def _amount(holding: Holding) -> tuple[float, float, float]:
    return holding.gpu_milli / MILLI, holding.cpu_milli / MILLI, holding.memory_mib / MIB_PER_GB


def _classes(world: World, demands: Sequence[Demand], settings: PlanSettings, now_ms: int) -> Classes:
    models, regions = world.gpu_models, len(world.region_names)
    size = len(demands)
    specs = [demand.key.spec for demand in demands]
    model_mask = np.ones((size, len(models)), bool)
    region_mask = np.ones((size, regions), bool)
    cpu_only = models.index("") if "" in models else None
    elsewhere = Elsewhere(world)
    for row, demand in enumerate(demands):
        spec, key = demand.key.spec, demand.key
        if spec.gpu_models is not None:
            model_mask[row] = [model in spec.gpu_models for model in models]
        if spec.gpus and cpu_only is not None:
            model_mask[row, cpu_only] = False
        region_mask[row] = _regions(world, spec, key, elsewhere)
    item_start, item_size, copy_start, copy_region = [0], list[float](), [0], list[int]()
    for spec in specs:
        for item in spec.data:
            places, size_gb = _where(world, item.dataset, item.region, item.size_gb)
            if places:
                item_size.append(size_gb)
                copy_region.extend(places)
                copy_start.append(len(copy_region))
        item_start.append(len(item_size))
    return make_classes(
        [f"{demand.order:012d}" for demand in demands],
        count=np.array([len(demand.tasks) for demand in demands], np.int64),
        need=np.array([(spec.gpus, spec.cpus, spec.memory_gb) for spec in specs], np.float64).reshape(size, 3),
        expected_h=np.array([spec.expected_s / HOUR_S for spec in specs], np.float64),
        wait_usd=np.array([demand.wait_usd(now_ms, settings.wait_usd) for demand in demands], np.float64),
        regions=regions,
        gpu_model_count=len(models),
        priority=np.array([spec.priority for spec in specs], np.int64),
        gpu_models=model_mask,
        allowed_regions=region_mask,
        spot_ok=np.array([spec.spot_ok for spec in specs], bool),
        origin=np.array([_origin(world, spec) for spec in specs], np.int64),
        max_rtt_ms=np.array([_or_inf(spec.max_rtt_ms) for spec in specs], np.float64),
        max_usd_per_hour=np.array([_or_inf(spec.max_usd_per_hour) for spec in specs], np.float64),
        replicas=np.array([demand.key.missing for demand in demands], np.int64),
        items=(
            np.array(item_start, np.int64),
            np.array(item_size, np.float64),
            np.array(copy_start, np.int64),
            np.array(copy_region, np.int64),
        ),
    )


def _regions(world: World, spec: TaskSpec, key: ClassKey, elsewhere: Elsewhere) -> BoolArray:
    """Regions a class may use; those where it failed only where the others have no room for it."""
    mask = np.ones(len(world.region_names), bool)
    if spec.allowed_regions is not None:
        mask[:] = [region in spec.allowed_regions for region in world.region_names]
    for closed in key.closed:
        mask[world.region_at(closed)] = False
    if not (spec.gpus or spec.cpus or spec.memory_gb):
        # A closed region is one without capacity, which is no hindrance for what needs none.
        mask &= [world.open_region(region) for region in world.region_names]
    if key.avoid and elsewhere.is_open(key):
        for avoided in key.avoid:
            mask[world.region_at(avoided)] = False
    return mask


def _origin(world: World, spec: TaskSpec) -> int:
    """Region the latency is measured from; an unknown one only matters where there is a limit to keep."""
    if spec.origin_region is None:
        return NOWHERE
    index = world.region_at(spec.origin_region)
    return index if index or spec.max_rtt_ms is not None else NOWHERE


def _or_inf(value: float | None) -> float:
    return np.inf if value is None else value


def _where(world: World, dataset: str | None, region: RegionId | None, size_gb: float) -> tuple[list[int], float]:
    """Region indices of an input's copies and its size; none where the dataset is unknown (it then costs nothing)."""
    if dataset is not None and (facts := world.geography.datasets.get(dataset)) is not None:
        return [world.region_at(place) for place in facts.regions], size_gb or facts.size_gb
    return ([world.region_at(region)], size_gb) if region is not None else ([], 0.0)


def hourly_usd(problem: Problem, rows: IntArray,
               pools: IntArray) -> FloatArray:  # fmt: skip
    """Price of one copy an hour on each arc."""
    return np.asarray(problem.classes.need[rows, GPUS] * problem.pools.usd_per_gpu_hour[pools])
