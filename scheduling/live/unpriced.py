"""Pools that nobody has named a price of: placing there would be a guess, so nothing is, and that is said."""

from dataclasses import dataclass, field

import numpy as np

from thalweg.scheduling.pack.pool_ids import pool_name
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import World

_MOST_NAMED = 3


@dataclass(slots=True)
class Unpriced:
    """The open pools without a price, and what they mean for tasks that wait; made anew for each plan."""

    world: World
    pools: list[int] = field(init=False)
    """By index; mostly none."""
    _names: dict[ClassKey, list[str]] = field(default_factory=dict)
    _alone: dict[ClassKey, bool] = field(default_factory=dict)
    """Whether there are no others that it could use."""

    def __post_init__(self) -> None:
        self.pools = [
            index
            for index, pool in enumerate(self.world.nodes.pools)
            if not np.isfinite(self.world.geography.price_of(pool)) and self.world.open_region(pool.region)
        ]

    def said(self, key: ClassKey, reason: str) -> str:
        """Say of a task that waits for room which pools would suit it, had they a price; else the reason as it is.

        Args:
            key: what the task asks for.
            reason: why it waits as the planner has it, who does not see pools without a price.
        """
        if not reason.startswith("capacity:"):
            return reason
        if key not in self._names:
            usable = self.world.usable_pools(key)
            self._names[key] = [pool_name(self.world.nodes.pools[pool]) for pool in self.pools if usable[pool]]
            self._alone[key] = int(usable.sum()) == len(self._names[key])
        names = self._names[key]
        if not names:
            return reason
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        others = "" if self._alone[key] else f"; of the others: {reason}"
        return (
            f"price: no price is known of {', '.join(names[:_MOST_NAMED])}{more}, which it could use: the region's "
            f"telemetry names none, and place.assumed_usd_per_gpu_hour is not set{others}"
        )
