"""Pools as they are when nothing is placed."""

from dataclasses import replace

import numpy as np

from thalweg.scheduling.problem.model import Pools
from thalweg.scheduling.world.tasks import MIB_PER_GB, MILLI
from thalweg.scheduling.world.world import World


def whole_pools(world: World, free: Pools | None = None) -> Pools:
    """Pools with all that their ready nodes have, taken or not; closed regions have none."""
    nodes = world.nodes
    open_ = nodes.ready & world.open_pools()[nodes.pool]
    columns = (nodes.gpus, nodes.cpu_milli / MILLI, nodes.memory_mib / MIB_PER_GB)
    capacity = [np.bincount(nodes.pool, np.where(open_, column, 0.0), len(nodes.pools)) for column in columns]
    return replace(free or world.pools(), capacity=np.stack(capacity, axis=1))
