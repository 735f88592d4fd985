"""The limits of a problem by name, and the problem without some of them: what is asked of to find which are in the way.

A limit that is let go can only make more plans possible, never fewer; what looks for the smallest set of limits that
no plan can keep rests on that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from thalweg.scheduling.arrays import BoolArray
from thalweg.scheduling.problem.check import MOST
from thalweg.scheduling.problem.model import NOWHERE, Classes, Problem, Tenants
from thalweg.scheduling.problem.order import gather


class LimitKind(StrEnum):
    """What a limit is of; all but the first have the words of `Reason`."""

    DEMAND = "demand"  # that every task of a class is placed
    CAPACITY = "capacity"
    GPU_MODEL = "gpu_model"
    RESIDENCY = "residency"
    LATENCY = "latency"
    DATA = "data"
    SPOT = "spot"
    PRICE_LIMIT = "max_usd_per_hour"
    REPLICAS = "replicas"
    QUOTA = "quota"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLimit:
    """One limit.

    Attributes:
        kind: what it is of.
        row: of the pool (capacity), of the tenant (quota, budget), else of the class.
        dimension: of a capacity; 0 is GPUs.
    """

    kind: LimitKind
    row: int
    dimension: int = 0


def limits_of(problem: Problem) -> tuple[NamedLimit, ...]:
    """Name every limit of a problem that keeps anything out; demands first, then capacities, classes and tenants.

    Pools that are closed to a class are no limit of anybody's wish, and stay closed.
    """
    classes, pools, tenants = problem.classes, problem.pools, problem.tenants
    asked = classes.count > 0
    of_class = {
        LimitKind.DEMAND: asked,
        LimitKind.GPU_MODEL: asked & ~classes.gpu_models.all(axis=1),
        LimitKind.RESIDENCY: asked & ~classes.allowed_regions.all(axis=1),
        LimitKind.LATENCY: asked & (classes.origin != NOWHERE),
        LimitKind.DATA: asked & (np.diff(classes.item_start) > 0),
        LimitKind.SPOT: asked & ~classes.spot_ok & pools.spot.any(),
        LimitKind.PRICE_LIMIT: asked & np.isfinite(classes.max_usd_per_hour),
        LimitKind.REPLICAS: asked & (classes.replicas > 1),
    }
    used = (classes.need[asked] > 0).any(axis=0)
    capacity = [
        NamedLimit(kind=LimitKind.CAPACITY, row=pool, dimension=int(dimension))
        for pool in range(len(pools))
        for dimension in np.flatnonzero(used)
    ]
    named = {kind: [NamedLimit(kind=kind, row=int(row)) for row in np.flatnonzero(of)] for kind, of in of_class.items()}
    demands = named.pop(LimitKind.DEMAND)
    held = set(classes.tenant[asked].tolist())
    of_tenant = [
        NamedLimit(kind=kind, row=row)
        for kind, most in ((LimitKind.QUOTA, tenants.quota_gpus), (LimitKind.BUDGET, tenants.budget_usd_per_hour))
        for row in np.flatnonzero(np.isfinite(most)).tolist()
        if row in held
    ]
    return (*demands, *capacity, *(limit for of in named.values() for limit in of), *of_tenant)


def loosened(problem: Problem, dropped: Iterable[NamedLimit]) -> Problem:
    """Let limits go: the same problem in which nothing keeps to them."""
    rows: dict[LimitKind, list[int]] = {kind: [] for kind in LimitKind}
    capacity = problem.pools.capacity.copy()
    for limit in dropped:
        if limit.kind is LimitKind.CAPACITY:
            capacity[limit.row, limit.dimension] = MOST
        else:
            rows[limit.kind].append(limit.row)
    return replace(
        problem,
        pools=replace(problem.pools, capacity=capacity),
        classes=_loosened_classes(problem.classes, rows),
        tenants=_loosened_tenants(problem.tenants, rows),
    )


def _loosened_classes(classes: Classes, rows: dict[LimitKind, list[int]]) -> Classes:
    count, replicas = classes.count.copy(), classes.replicas.copy()
    # Copies that may lie side by side are tasks of one copy each.
    side_by_side = rows[LimitKind.REPLICAS]
    count[side_by_side] *= replicas[side_by_side]
    replicas[side_by_side] = 1
    count[rows[LimitKind.DEMAND]] = 0
    changed = replace(
        classes,
        count=count,
        replicas=replicas,
        gpu_models=_allowing(classes.gpu_models, rows[LimitKind.GPU_MODEL]),
        allowed_regions=_allowing(classes.allowed_regions, rows[LimitKind.RESIDENCY]),
        spot_ok=_allowing(classes.spot_ok, rows[LimitKind.SPOT]),
        origin=_put(classes.origin, rows[LimitKind.LATENCY], NOWHERE),
        max_usd_per_hour=_put(classes.max_usd_per_hour, rows[LimitKind.PRICE_LIMIT], np.inf),
    )
    return _without_data(changed, rows[LimitKind.DATA]) if rows[LimitKind.DATA] else changed


def _loosened_tenants(tenants: Tenants, rows: dict[LimitKind, list[int]]) -> Tenants:
    return replace(
        tenants,
        quota_gpus=_put(tenants.quota_gpus, rows[LimitKind.QUOTA], np.inf),
        budget_usd_per_hour=_put(tenants.budget_usd_per_hour, rows[LimitKind.BUDGET], np.inf),
    )


def _allowing(mask: BoolArray, rows: list[int]) -> BoolArray:
    mask = mask.copy()
    mask[rows] = True
    return mask


def _put(column: np.ndarray, rows: list[int], value: float) -> np.ndarray:
    column = column.copy()
    column[rows] = value
    return column


def _without_data(classes: Classes, rows: list[int]) -> Classes:
    """Take the data items of some classes away."""
    number = np.diff(classes.item_start)
    owner = np.repeat(np.arange(len(classes)), number)
    kept = np.flatnonzero(~np.isin(owner, rows))
    copies, copy_start = gather(classes.copy_start, kept)
    return replace(
        classes,
        item_start=np.concatenate([[0], np.cumsum(_put(number, rows, 0))]),
        item_size_gb=classes.item_size_gb[kept],
        copy_start=copy_start,
        copy_region=classes.copy_region[copies],
    )
