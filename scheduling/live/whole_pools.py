"""Pools as they are when nothing is placed."""

from dataclasses import replace

from thalweg.scheduling.problem.model import Pools
from thalweg.scheduling.world.supply import whole_capacity
from thalweg.scheduling.world.world import World


def whole_pools(world: World, free: Pools | None = None) -> Pools:
    """Pools with all that their ready nodes have, taken or not; closed regions have none."""
    return replace(free or world.pools(), capacity=whole_capacity(world.nodes, world.open_pools()))
