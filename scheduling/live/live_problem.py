"""What demands ask for as one placement problem: a row per demand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from thalweg.scheduling.arrays import BoolArray, IntArray
from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.elsewhere import Elsewhere
from thalweg.scheduling.live.live_plan import PlanSettings
from thalweg.scheduling.live.tenant_allowance import left_of
from thalweg.scheduling.problem.model import NOWHERE, Classes, Pools, Problem, Tenants, make_classes
from thalweg.scheduling.world.tasks import TaskSpec
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import World

HOUR_S = 3_600.0


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
        classes=replace(_classes(world, demands, settings, now_ms, len(pools)), tenant=of_demand),
        weights=settings.weights,
        tenants=tenants,
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


def _classes(world: World, demands: Sequence[Demand], settings: PlanSettings, now_ms: int, pool_count: int) -> Classes:
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
            places, size_gb = world.geography.where(item)
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
        wait_usd=np.array(
            [demand.wait_usd(now_ms, settings.wait_usd, settings.rule) for demand in demands], np.float64
        ),
        regions=regions,
        gpu_model_count=len(models),
        priority=np.array([spec.priority for spec in specs], np.int64),
        gpu_models=model_mask,
        allowed_regions=region_mask,
        spot_ok=np.array([spec.spot_ok for spec in specs], bool),
        origin=np.array([_origin(world, spec) for spec in specs], np.int64),
        max_rtt_ms=np.array([_or_inf(spec.max_rtt_ms) for spec in specs], np.float64),
        max_usd_per_hour=np.array([_or_inf(spec.max_usd_per_hour) for spec in specs], np.float64),
        closed_pools=_closed(demands, pool_count),
        replicas=np.array([demand.key.missing for demand in demands], np.int64),
        items=(
            np.array(item_start, np.int64),
            np.array(item_size, np.float64),
            np.array(copy_start, np.int64),
            np.array(copy_region, np.int64),
        ),
    )


def _closed(demands: Sequence[Demand], pools: int) -> BoolArray | None:
    """Pools that are kept for others, or lie too far from its data; None where none is."""
    if not any(demand.closed or demand.far for demand in demands):
        return None
    mask = np.zeros((len(demands), pools), bool)
    for row, demand in enumerate(demands):
        mask[row, sorted(demand.closed | demand.far)] = True
    return mask


def _regions(world: World, spec: TaskSpec, key: ClassKey, elsewhere: Elsewhere) -> BoolArray:
    """Regions a class may use; those where it failed only where the others have no room for it."""
    mask = np.ones(len(world.region_names), bool)
    if spec.allowed_regions is not None:
        mask[:] = [region in spec.allowed_regions for region in world.region_names]
    if not spec.has_command:
        mask &= [world.geography.runs_without_command(region) for region in world.region_names]
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
