"""What one more GPU in each pool is worth an hour now, in US dollars: to who waits, or to who had to go elsewhere.

No price of waiting is in it (decision 184 says what that is): a delay counts what it costs, and money is money.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from thalweg.scheduling.arrays import BoolArray
from thalweg.scheduling.ids import PoolId
from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.live_plan import PlanSettings, PoolPrice
from thalweg.scheduling.live.live_problem import live_problem
from thalweg.scheduling.live.tenant_allowance import left_of
from thalweg.scheduling.live.whole_pools import whole_pools
from thalweg.scheduling.problem.cost import arc_costs
from thalweg.scheduling.problem.model import GPUS
from thalweg.scheduling.world.waiting import ClassKey, Dearest
from thalweg.scheduling.world.world import World

MOST_PRICES: Final = 16
"""Pools named per plan: those where a GPU more would save most."""
MOST_LOOKED: Final = 4_096
"""Classes that wait and are looked at, those of the most value by GPU: as many tasks as one plan considers."""
_ROUNDS: Final = 8
"""Times that a pool's next class is tried: the first may nearly always go there."""
_SLACK: Final = 1e-9


def pool_prices(
    world: World, settings: PlanSettings, rather: Sequence[PoolPrice], now_ms: int
) -> tuple[PoolPrice, ...]:
    """Say what one GPU more would save now, the most an hour first.

    In a pool that is short of GPUs for what waits: the delay of the task of the most value by GPU. In another:
    what the plan's own copies would cost less there.

    Args:
        world: as it is after the plan.
        settings: of the plan.
        rather: where copies of the plan would rather have gone (`plan_money`).
        now_ms: deadlines are counted from it.
    """
    found = {price.pool_id: price for price in rather}
    found |= {price.pool_id: price for price in _worth_to_waiting(world, settings, now_ms)}
    ordered = sorted(found.values(), key=lambda price: (-price.saves_usd_per_hour, price.pool_id))
    return tuple(ordered[:MOST_PRICES])


def _worth_to_waiting(world: World, settings: PlanSettings, now_ms: int) -> list[PoolPrice]:
    dearest = world.waiting.dearest(MOST_LOOKED, now_ms)
    if not dearest.classes:
        return []
    pools = world.pools()
    # Where enough GPUs are free for it, it is not GPUs that a class is short of.
    may = dearest.pools & world.open_pools() & (dearest.gpus[:, None] > pools.capacity[:, GPUS] + _SLACK)
    may &= ~_at_its_limit(world, dearest, float(np.nanmin(pools.usd_per_gpu_hour)))[:, None]
    chosen = np.full(len(pools), -1, np.int64)
    for _ in range(_ROUNDS):
        open_ = np.flatnonzero(may.any(axis=0))
        if not open_.size:
            break
        first = may[:, open_].argmax(axis=0)
        rows = np.unique(first)
        usable = _usable(world, settings, [dearest.classes[row].key for row in rows.tolist()], now_ms)
        fits = usable[np.searchsorted(rows, first), open_]
        chosen[open_[fits]] = first[fits]
        may[:, open_[fits]] = False
        may[first, open_] = False
    return [
        PoolPrice(
            pool_id=PoolId(pools.pool_ids[at]),
            saves_usd=usd * dearest.classes[row].key.spec.expected_s / 3_600.0,
            saves_usd_per_hour=usd,
            usd_per_gpu_hour=float(pools.usd_per_gpu_hour[at]),
        )
        for at, row in enumerate(chosen.tolist())
        if row >= 0
        for usd in (float(dearest.usd_per_gpu_hour[row]),)
    ]


def _at_its_limit(world: World, dearest: Dearest, least_usd_per_gpu_hour: float) -> BoolArray:
    """Tell whose tenant may not have what it waits for, however many GPUs there are: [N]."""
    mask = np.zeros(len(dearest.classes), bool)
    if world.tenants:
        left = {name: left_of(world, name) for name in world.tenants}
        for row, waiting in enumerate(dearest.classes):
            gpus, usd_per_hour = left.get(waiting.key.spec.tenant, (np.inf, np.inf))
            mask[row] = waiting.gpus > gpus + _SLACK or waiting.gpus * least_usd_per_gpu_hour > usd_per_hour + _SLACK
    return mask


def _usable(world: World, settings: PlanSettings, keys: Sequence[ClassKey], now_ms: int) -> BoolArray:
    """Where classes could be planned if the pools were empty, by everything that a plan asks: [N, P]."""
    demands = [Demand(key=key, tasks=(), order=row, since_ms=now_ms) for row, key in enumerate(keys)]
    return np.isfinite(arc_costs(live_problem(world, demands, settings, now_ms, whole_pools(world))).usd)
