"""Pools that nobody has named a price of: placing there would be a guess, so nothing is, and that is said."""

import numpy as np

from thalweg.scheduling.pack.pool_ids import pool_name
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import World

_MOST_NAMED = 3


def for_want_of_a_price(world: World, key: ClassKey, reason: str) -> str:
    """Say of a task that waits for room which open pools would suit it, had they a price; else the reason as it is.

    Args:
        world: as it is.
        key: what the task asks for.
        reason: why it waits as the planner has it, who does not see pools without a price.
    """
    if not reason.startswith("capacity:"):
        return reason
    usable = world.usable_pools(key)
    names = [
        pool_name(pool)
        for index, pool in enumerate(world.nodes.pools)
        if usable[index] and (pool.gpu_model or not key.spec.gpus) and not np.isfinite(world.geography.price_of(pool))
    ]
    if not names:
        return reason
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return (
        f"price: no price is known of {', '.join(names[:_MOST_NAMED])}{more}, which it could use: the region's "
        f"telemetry names none, and place.assumed_usd_per_gpu_hour is not set; of the others: {reason}"
    )
