"""The canonical order of a problem, so that the same input in any order gives the same plan.

Regions, tenants and classes are ordered by id, pools by (region id, pool id): pools of a region lie together, and every
tie inside a solver is broken by position, hence by id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from thalweg.scheduling.arrays import IntArray
from thalweg.scheduling.problem.model import NOWHERE, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """A problem in canonical order and the way back: row i of it is row pool[i] (class_[i]) of the caller's."""

    problem: Problem
    pool: IntArray
    class_: IntArray


def in_order(problem: Problem) -> Ordered:
    """Reorder a problem; returns the same object when it already is in order."""
    regions, region_rank = _ranks(problem.regions)
    _, tenant_rank = _ranks(problem.tenants.tenant_ids)
    classes, _ = _ranks(problem.classes.class_ids)
    by_id, _ = _ranks(problem.pools.pool_ids)
    pools = by_id[np.argsort(region_rank[problem.pools.region[by_id]], kind="stable")]
    if all((order[1:] > order[:-1]).all() for order in (regions, tenant_rank, classes, pools)):
        return Ordered(problem=problem, pool=pools, class_=classes)
    return Ordered(problem=reordered(problem, regions, classes, pools), pool=pools, class_=classes)


def _ranks(ids: Sequence[str]) -> tuple[IntArray, IntArray]:
    """Order of ids, and the rank each id has in it."""
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return order, rank


def reordered(problem: Problem, regions: IntArray, classes: IntArray, pools: IntArray) -> Problem:
    """The same problem with its rows in the given orders; tenants are sorted by id."""
    tenants, tenant_rank = _ranks(problem.tenants.tenant_ids)
    region_rank, pool_rank = np.argsort(regions), np.argsort(pools)
    old, net, limits = problem.classes, problem.network, problem.tenants
    items, item_start = gather(old.item_start, classes)
    copies, copy_start = gather(old.copy_start, items)
    runs, current_start = gather(old.current_start, classes)
    square = np.ix_(regions, regions)
    return replace(
        problem,
        regions=tuple(problem.regions[i] for i in regions),
        pools=replace(
            problem.pools,
            pool_ids=tuple(problem.pools.pool_ids[i] for i in pools),
            region=region_rank[problem.pools.region[pools]],
            **{
                name: getattr(problem.pools, name)[pools]
                for name in ("gpu_model", "spot", "capacity", "usd_per_gpu_hour", "interruptions_per_hour", "busy_gpus")
            },
        ),
        network=replace(net, rtt_ms=net.rtt_ms[square], gbps=net.gbps[square], usd_per_gb=net.usd_per_gb[square]),
        classes=replace(
            old,
            class_ids=tuple(old.class_ids[i] for i in classes),
            allowed_regions=old.allowed_regions[np.ix_(classes, regions)],
            closed_pools=None if old.closed_pools is None else old.closed_pools[np.ix_(classes, pools)],
            origin=_mapped(old.origin[classes], region_rank),
            tenant=_mapped(old.tenant[classes], tenant_rank),
            item_start=item_start,
            item_size_gb=old.item_size_gb[items],
            copy_start=copy_start,
            copy_region=region_rank[old.copy_region[copies]],
            current_start=current_start,
            current_pool=pool_rank[old.current_pool[runs]],
            **{
                name: getattr(old, name)[classes]
                for name in (
                    "count", "need", "expected_h", "priority", "gpu_models", "spot_ok", "checkpoint_h", "max_rtt_ms",
                    "max_usd_per_hour", "replicas", "wait_usd",
                )
            },
        ),
        tenants=replace(
            limits,
            tenant_ids=tuple(limits.tenant_ids[i] for i in tenants),
            quota_gpus=limits.quota_gpus[tenants],
            budget_usd_per_hour=limits.budget_usd_per_hour[tenants],
        ),
    )  # fmt: skip


def _mapped(index: IntArray, rank: IntArray) -> IntArray:
    return np.where(index == NOWHERE, NOWHERE, np.append(rank, NOWHERE)[index])


def gather(start: IntArray, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Entries of the chosen rows of a start/entries table, in row order, and the new starts."""
    number = np.diff(start)[rows]
    new_start = np.concatenate([[0], np.cumsum(number)]).astype(np.int64)
    return np.repeat(start[rows] - new_start[:-1], number) + np.arange(new_start[-1]), new_start
