"""The columnar placement problem: pools, the network between regions, classes of equal tasks, tenants, weights.

Everything is a frozen record of numpy columns, because a live micro-batch builds a problem several times a second
and a benchmark builds one of a million tasks: no object per task exists anywhere in the core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray

GPUS = 0
"""Dimension 0 of every capacity and need is GPUs; further dimensions (cpus, memory_gb) are the caller's."""

NOWHERE = -1
"""Index that means: no origin region, no tenant."""

SPOT_INTERRUPTIONS_PER_HOUR = 0.05
"""Assumed hazard of a spot pool that states none, one interruption in 20 hours: pessimistic on purpose, so that a pool
nobody has measured is not trusted more than a measured one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """Places of one price: (region, GPU model, on-demand or spot).

    Attributes:
        pool_ids: unique ids; they break ties.
        region: [P] index into `Problem.regions`.
        gpu_model: [P] index into `Problem.gpu_models`.
        spot: [P] true where the provider may take the machines back.
        capacity: [P, D] what this problem may use, dimension 0 in GPUs.
        usd_per_gpu_hour: [P].
        interruptions_per_hour: [P] hazard of losing a task; 0 for on-demand.
        busy_gpus: [P] GPUs held by tasks that are not part of this problem; they count in the balance term only.
    """

    pool_ids: tuple[str, ...]
    region: IntArray
    gpu_model: IntArray
    spot: BoolArray
    capacity: FloatArray
    usd_per_gpu_hour: FloatArray
    interruptions_per_hour: FloatArray
    busy_gpus: FloatArray

    def __len__(self) -> int:
        return len(self.pool_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Links between regions, each [R, R] from row to column.

    Attributes:
        rtt_ms: round trip; inf means unreachable.
        gbps: bandwidth in Gbit/s; 0 means unreachable, inf means not a limit.
        usd_per_gb: egress price; inf means unreachable.
    """

    rtt_ms: FloatArray
    gbps: FloatArray
    usd_per_gb: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """Tasks with the same needs, one row a class.

    A task asks for `replicas` full copies in as many distinct regions; each copy lies whole in one pool (gang).

    Attributes:
        class_ids: unique ids; they break ties.
        count: [C] tasks of the class.
        need: [C, D] of one copy.
        expected_h: [C] expected running hours.
        priority: [C] higher is more important; used by preemption and to break ties, never in the cost.
        gpu_models: [C, M] models that will do.
        allowed_regions: [C, R] residency.
        closed_pools: [C, P] pools that a class may not take now, whatever else is placed; None for none.
        spot_ok: [C] whether spot pools will do.
        checkpoint_h: [C] hours of work lost at most by an interruption; inf when the task keeps no checkpoints.
        origin: [C] region index the latency is measured from, or NOWHERE.
        max_rtt_ms: [C] hard limit; inf for none.
        max_usd_per_hour: [C] hard limit on the price of one copy; inf for none.
        replicas: [C] copies in distinct regions, at least 1; all or nothing.
        tenant: [C] index into `Tenants`, or NOWHERE.
        wait_usd: [C] price of leaving one task unplaced (priority and age folded in by the caller).
        item_start: [C + 1] data items of class c are rows item_start[c]:item_start[c + 1] of item_size_gb.
        item_size_gb: [N].
        copy_start: [N + 1] copies of item i are copy_region[copy_start[i]:copy_start[i + 1]], at least one.
        copy_region: region indices.
        current_start: [C + 1] pools each task of the class runs in now: current_pool[current_start[c]:...].
        current_pool: pool indices, one per running copy; NOWHERE for a pool that is gone.
    """

    class_ids: tuple[str, ...]
    count: IntArray
    need: FloatArray
    expected_h: FloatArray
    priority: IntArray
    gpu_models: BoolArray
    allowed_regions: BoolArray
    spot_ok: BoolArray
    checkpoint_h: FloatArray
    origin: IntArray
    max_rtt_ms: FloatArray
    max_usd_per_hour: FloatArray
    replicas: IntArray
    tenant: IntArray
    wait_usd: FloatArray
    item_start: IntArray
    item_size_gb: FloatArray
    copy_start: IntArray
    copy_region: IntArray
    current_start: IntArray
    current_pool: IntArray
    closed_pools: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.class_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenants:
    """Hard limits per tenant on what one plan may hold.

    Attributes:
        tenant_ids: unique ids.
        quota_gpus: [T] GPUs; inf for none.
        budget_usd_per_hour: [T] sum of gpus × usd_per_gpu_hour over its copies; inf for none.
    """

    tenant_ids: tuple[str, ...] = ()
    quota_gpus: FloatArray = field(default_factory=lambda: np.zeros(0))
    budget_usd_per_hour: FloatArray = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.tenant_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Prices of what is not already money.

    Attributes:
        rtt: USD per millisecond of round trip and hour of running.
        risk: factor on the expected loss on spot (1 = its expected value).
        move: USD for a running copy that does not stay where it runs.
        balance: USD per GPU and squared deviation from the fleet's utilisation.
    """

    rtt: float = 0.0
    risk: float = 0.0
    move: float = 0.0
    balance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One placement problem, complete: solving it needs nothing else."""

    regions: tuple[str, ...]
    gpu_models: tuple[str, ...]
    pools: Pools
    network: Network
    classes: Classes
    weights: Weights = Weights()
    tenants: Tenants = Tenants()

    @property
    def dimensions(self) -> int:
        """Number of resource dimensions D; dimension 0 is GPUs."""
        return int(self.pools.capacity.shape[1])


def make_pools(
    pool_ids: Sequence[str],
    *,
    region: IntArray,
    gpu_model: IntArray,
    capacity: FloatArray,
    usd_per_gpu_hour: FloatArray,
    spot: BoolArray | None = None,
    interruptions_per_hour: FloatArray | None = None,
    busy_gpus: FloatArray | None = None,
) -> Pools:
    """Build pools with defaults: on-demand, nothing busy; a one-dimensional capacity means GPUs only."""
    count = len(pool_ids)
    capacity = np.asarray(capacity, np.float64)
    spot = np.zeros(count, bool) if spot is None else np.asarray(spot, bool)
    hazard = (
        np.where(spot, SPOT_INTERRUPTIONS_PER_HOUR, 0.0) if interruptions_per_hour is None else interruptions_per_hour
    )
    return Pools(
        pool_ids=tuple(pool_ids),
        region=np.asarray(region, np.int64),
        gpu_model=np.asarray(gpu_model, np.int64),
        spot=spot,
        capacity=capacity[:, None] if capacity.ndim == 1 else capacity,
        usd_per_gpu_hour=np.asarray(usd_per_gpu_hour, np.float64),
        interruptions_per_hour=np.asarray(hazard, np.float64),
        busy_gpus=np.zeros(count) if busy_gpus is None else np.asarray(busy_gpus, np.float64),
    )


def make_classes(
    class_ids: Sequence[str],
    *,
    count: IntArray,
    need: FloatArray,
    expected_h: FloatArray,
    wait_usd: FloatArray | float,
    regions: int,
    gpu_model_count: int,
    priority: IntArray | None = None,
    gpu_models: BoolArray | None = None,
    allowed_regions: BoolArray | None = None,
    spot_ok: BoolArray | None = None,
    checkpoint_h: FloatArray | None = None,
    origin: IntArray | None = None,
    max_rtt_ms: FloatArray | None = None,
    max_usd_per_hour: FloatArray | None = None,
    replicas: IntArray | None = None,
    tenant: IntArray | None = None,
    items: tuple[IntArray, FloatArray, IntArray, IntArray] | None = None,
    current: tuple[IntArray, IntArray] | None = None,
    closed_pools: BoolArray | None = None,
) -> Classes:
    """Build classes with defaults: any model, any region, spot refused, no latency limit, one copy, no data.

    Args:
        class_ids: one id a class.
        count: tasks a class.
        need: [C] GPUs or [C, D] of one copy.
        expected_h: hours.
        wait_usd: price of one unplaced task, a number or a column.
        regions: number of regions R.
        gpu_model_count: number of GPU models M.
        priority: default 0.
        gpu_models: [C, M] mask, default all.
        allowed_regions: [C, R] mask, default all.
        spot_ok: default false.
        checkpoint_h: default inf (no checkpoints).
        origin: default NOWHERE.
        max_rtt_ms: default inf.
        max_usd_per_hour: default inf.
        replicas: default 1.
        tenant: default NOWHERE.
        items: (item_start, item_size_gb, copy_start, copy_region), default no data.
        current: (current_start, current_pool), default nothing runs.
        closed_pools: [C, P] mask, default none.
    """
    size = len(class_ids)
    need = np.asarray(need, np.float64)
    none = np.zeros(size + 1, np.int64)
    empty = np.zeros(0, np.int64)
    item_start, item_size_gb, copy_start, copy_region = items or (none, np.zeros(0), np.zeros(1, np.int64), empty)
    current_start, current_pool = current or (none, empty)
    return Classes(
        class_ids=tuple(class_ids),
        count=np.asarray(count, np.int64),
        need=need[:, None] if need.ndim == 1 else need,
        expected_h=np.asarray(expected_h, np.float64),
        priority=_column(priority, size, 0, np.int64),
        gpu_models=np.ones((size, gpu_model_count), bool) if gpu_models is None else gpu_models,
        allowed_regions=np.ones((size, regions), bool) if allowed_regions is None else allowed_regions,
        spot_ok=_column(spot_ok, size, False, np.bool_),
        checkpoint_h=_column(checkpoint_h, size, np.inf, np.float64),
        origin=_column(origin, size, NOWHERE, np.int64),
        max_rtt_ms=_column(max_rtt_ms, size, np.inf, np.float64),
        max_usd_per_hour=_column(max_usd_per_hour, size, np.inf, np.float64),
        replicas=_column(replicas, size, 1, np.int64),
        tenant=_column(tenant, size, NOWHERE, np.int64),
        wait_usd=np.broadcast_to(np.asarray(wait_usd, np.float64), (size,)),
        item_start=np.asarray(item_start, np.int64),
        item_size_gb=np.asarray(item_size_gb, np.float64),
        copy_start=np.asarray(copy_start, np.int64),
        copy_region=np.asarray(copy_region, np.int64),
        current_start=np.asarray(current_start, np.int64),
        current_pool=np.asarray(current_pool, np.int64),
        closed_pools=closed_pools,
    )


def _column(values: Any, size: int, default: float, dtype: Any) -> Any:
    return np.full(size, default, dtype) if values is None else np.asarray(values, dtype)


def local_network(regions: int) -> Network:
    """A network without links: a region reaches itself at rtt 0, unlimited gbps and 0 USD per GB, and nothing else."""
    rtt_ms = np.full((regions, regions), np.inf)
    gbps = np.zeros((regions, regions))
    usd_per_gb = np.full((regions, regions), np.inf)
    own = np.arange(regions)
    rtt_ms[own, own] = 0.0
    gbps[own, own] = np.inf
    usd_per_gb[own, own] = 0.0
    return Network(rtt_ms=rtt_ms, gbps=gbps, usd_per_gb=usd_per_gb)
