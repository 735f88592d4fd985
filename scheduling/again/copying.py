"""A copy of the world for who looks at it beside the micro-batch: places and who sits where; tasks only by name."""

from collections.abc import Sequence
from copy import copy as shallow
from dataclasses import dataclass
from typing import Final

from thalweg.scheduling.live.demand import Demand
from thalweg.scheduling.live.who_asks import demands_of
from thalweg.scheduling.world.world import World

MOST_STUCK: Final = 16
"""Classes of waiting tasks that one look considers, the most urgent first; as many as a plan makes room for."""
MOST_STUCK_TASKS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldCopy:
    """What a look reads."""

    world: World
    stuck: Sequence[Demand]
    """Who waits and found no room in the last plan, the most urgent first."""
    now_ms: int


def copied(world: World, now_ms: int) -> WorldCopy:
    """Copy columns, prices and links; a large world takes some ten milliseconds.

    Tasks are not copied: who looks reads of them what never changes (`Task.spec`, where a copy was placed), and what it
    proposes is proved before it is done.

    Args:
        world: as it is between two batches.
        now_ms: the moment.
    """
    copy = World(world.tasks)
    geography = shallow(world.geography)
    geography.regions, geography.names = dict(geography.regions), list(geography.names)
    geography._index = dict(geography._index)
    copy.geography, copy.regions = geography, geography.regions
    copy.fleet.nodes = copy.nodes = world.nodes.copied()
    copy.fleet.occupancy = copy.occupancy = world.occupancy.copied()
    copy.holdings = {tenant: shallow(held) for tenant, held in world.holdings.items()}
    copy.tenants, copy.orders, copy.back_offs = world.tenants, world.orders, world.back_offs
    window = world.waiting.stuck(MOST_STUCK, MOST_STUCK_TASKS, now_ms)
    held = world.orders.held_tenants
    stuck = [demand for demand in demands_of(world, window) if demand.key.spec.tenant not in held]
    return WorldCopy(world=copy, stuck=stuck, now_ms=now_ms)
