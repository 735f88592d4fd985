"""Weighted dominant resource fairness with quotas and borrowing (Ghodsi et al., NSDI 2011).

Tenants are raised together: each holds the same multiple of its weight in its dominant resource, until its demand or
its quota is met or something it needs has run out. What a satisfied tenant leaves is thereby lent to the others; it
gets it back as soon as it asks and something is free, because entitlements are computed anew for every plan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.problem.model import GPUS


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlements:
    """What each tenant may hold.

    Attributes:
        amount: [T, D] of each resource.
        dominant_share: [T] largest share of any resource; 0 for a tenant that asks for something nobody has.
        borrowed_gpus: [T] above what its weight alone would give it while others ask for less than theirs.
    """

    amount: FloatArray
    dominant_share: FloatArray
    borrowed_gpus: FloatArray


def entitlements(
    demand: FloatArray, capacity: FloatArray, weight: FloatArray, quota_gpus: FloatArray | None = None
) -> Entitlements:
    """Share capacity out.

    Args:
        demand: [T, D] all that each tenant asks for, running included; its proportions are kept.
        capacity: [D].
        weight: [T] positive.
        quota_gpus: [T] hard limit in GPUs; None for none.
    """
    tenants = len(demand)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(demand > 0, demand / capacity, 0.0)
    dominant = share.max(axis=1, initial=0.0)
    possible: BoolArray = (dominant > 0) & np.isfinite(dominant)
    # Progress 1 is the whole demand; a quota stops a tenant earlier.
    ceiling = np.ones(tenants)
    if quota_gpus is not None:
        asked = demand[:, GPUS] > 0
        ceiling[asked] = np.minimum(1.0, quota_gpus[asked] / demand[asked, GPUS])
    speed = np.where(possible, weight / np.where(possible, dominant, 1.0), 0.0)
    progress, left = np.zeros(tenants), capacity.astype(float).copy()
    rising = possible & (ceiling > 0)
    while rising.any():
        use = (demand[rising] * speed[rising, None]).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            until_empty = np.where(use > 0, left / use, np.inf)
        until_met = (ceiling[rising] - progress[rising]) / speed[rising]
        step = float(min(until_empty.min(initial=np.inf), until_met.min(initial=np.inf)))
        progress[rising] += speed[rising] * step
        left = left - use * step
        empty = left <= 1e-9 * np.maximum(capacity, 1.0)
        # Whoever has all it asked for, or needs something that has run out, holds what it has.
        rising &= (progress < ceiling - 1e-12) & ~((demand > 0) & empty).any(axis=1)
    amount = demand * progress[:, None]
    total = float(weight[possible].sum()) or 1.0
    guaranteed = np.where(possible, weight / total, 0.0) * capacity[GPUS]
    return Entitlements(
        amount=amount,
        dominant_share=np.where(possible, dominant, 0.0) * progress,
        borrowed_gpus=np.maximum(amount[:, GPUS] - guaranteed, 0.0),
    )


def tasks_within_share(
    *, tenant: IntArray, need: FloatArray, count: IntArray, held: FloatArray, capacity: FloatArray,
    weight: FloatArray, quota_gpus: FloatArray,
) -> IntArray:  # fmt: skip
    """How many tasks of each class lie within their tenant's share; all of them while there is room for everybody.

    A share counts as open until it is reached, so the last task may reach beyond it: a gang larger than its tenant's
    share would otherwise never be within. What needs a resource of which there is none waits for that, and not for its
    tenant's share: it is within, and takes nothing of it.

    Args:
        tenant: [C] index of each class's tenant; classes in the order in which a tenant's share is to be filled.
        need: [C, D] of one task.
        count: [C] tasks that wait.
        held: [T, D] held now.
        capacity: [D] of everything, held or free.
        weight: [T].
        quota_gpus: [T].
    """
    demand = held.copy()
    exists: BoolArray = np.logical_not(((need > 0) & (capacity <= 0)).any(axis=1))
    np.add.at(demand, tenant[exists], (need * count[:, None])[exists])
    if (demand.sum(axis=0) <= capacity).all():
        return count
    share = entitlements(demand, capacity, weight, quota_gpus).dominant_share
    used, within = held.copy(), np.zeros_like(count)
    for row, owner in enumerate(tenant.tolist()):
        needed = need[row] > 0
        if not needed.any() or not exists[row]:
            within[row] = count[row]
            continue
        open_ = (share[owner] * capacity - used[owner])[needed] / need[row, needed]
        within[row] = min(max(int(np.ceil(open_.min() - 1e-9)), 0), int(count[row]))
        used[owner] += need[row] * within[row]
    return within
