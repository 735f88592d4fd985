"""Whether a task goes elsewhere first: regions where it failed are left out for as long as others have room for it.

It waits for nobody's sake: where the others have no room now, or not for all of its copies, the regions where it failed
are as good as any. Room is judged by first fit, which never sees room where there is none.
"""

from dataclasses import dataclass, field

import numpy as np

from thalweg.scheduling.arrays import BoolArray, IntArray
from thalweg.scheduling.live.node_limits import workers_by_pool
from thalweg.scheduling.pack.nodes import GPU_MILLI, Need, Nodes
from thalweg.scheduling.world.tasks import TaskSpec
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import World


@dataclass(slots=True)
class Elsewhere:
    """The world's nodes as they are now; made anew for each plan."""

    world: World
    _workers: dict[Need, IntArray] = field(default_factory=dict)

    def is_open(self, key: ClassKey) -> bool:
        """Whether regions in which the class did not fail have room for all the copies that it misses."""
        world, spec = self.world, key.spec
        allowed = spec.allowed_regions
        pools = np.flatnonzero(world.usable_pools(key) & self._room(spec)).tolist()
        regions = {world.nodes.pools[pool].region for pool in pools} - key.avoid
        return len(regions if allowed is None else regions & set(allowed)) >= key.missing

    def _room(self, spec: TaskSpec) -> BoolArray:
        """[P] pools with room for one copy."""
        nodes = self.world.nodes
        if len(spec.parts) > 1 or spec.spread_workers:
            return first_fit(nodes, spec)
        (part,) = spec.parts
        if part.need not in self._workers:
            self._workers[part.need] = workers_by_pool(nodes, part.need)
        least = part.workers if spec.min_workers is None else spec.min_workers
        return self._workers[part.need] >= least


def first_fit(nodes: Nodes, spec: TaskSpec) -> BoolArray:
    """[P] pools that hold a copy on what is free of their ready nodes, part by part, the hardest first.

    GPUs count where nothing of them is taken.
    """
    gpus = (nodes.gpu_milli_free >= GPU_MILLI).sum(axis=1)
    cpu_milli, memory_mib = nodes.cpu_milli_free.clip(min=0), nodes.memory_mib_free.clip(min=0)
    occupancy = np.where(nodes.ready, 1 if spec.spread_workers else spec.workers, 0)
    holds = np.ones(len(nodes.pools), bool)
    for part in sorted(spec.parts, key=lambda part: _hardness(part.need)):
        need = part.need
        room = occupancy.copy()
        if need.gpus:
            slices = GPU_MILLI // need.gpu_milli
            room = np.minimum(room, np.where(gpus >= need.gpus, gpus * slices // need.gpus, 0))
        if need.cpu_milli:
            room = np.minimum(room, cpu_milli // need.cpu_milli)
        if need.memory_mib:
            room = np.minimum(room, memory_mib // need.memory_mib)
        taken = _first_of_each_pool(nodes, room, part.workers)
        holds &= np.bincount(nodes.pool, taken, len(nodes.pools)) >= part.workers
        occupancy, cpu_milli = occupancy - taken, cpu_milli - taken * need.cpu_milli
        memory_mib = memory_mib - taken * need.memory_mib
        if need.gpus:
            gpus = gpus - -(-taken * need.gpus // slices)
    return holds


def _first_of_each_pool(nodes: Nodes, room: IntArray, workers: int) -> IntArray:
    """[rows] how many of so many workers each node takes, where each pool's nodes are filled in their order."""
    order = np.argsort(nodes.pool, kind="stable")
    before = np.cumsum(room[order]) - room[order]
    starts = np.flatnonzero(np.diff(nodes.pool[order], prepend=-1))
    before -= np.repeat(before[starts], np.diff(starts, append=len(order)))
    taken = np.zeros_like(room)
    taken[order] = np.clip(workers - before, 0, room[order])
    return taken


def _hardness(need: Need) -> tuple[int, int, int]:
    return -need.total_gpu_milli, -need.cpu_milli, -need.memory_mib
