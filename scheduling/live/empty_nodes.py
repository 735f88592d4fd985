"""What nodes could hold if nothing ran on them."""

from dataclasses import dataclass, field

import numpy as np

from thalweg.scheduling.arrays import BoolArray, IntArray
from thalweg.scheduling.live.node_limits import workers_of_empty_pools
from thalweg.scheduling.pack.nodes import Need, Nodes
from thalweg.scheduling.world.tasks import MILLI, TaskSpec


@dataclass(slots=True)
class EmptyNodes:
    """Nodes, of which those that are ready count; what is asked twice is known."""

    nodes: Nodes
    _most: dict[tuple[Need, bool], IntArray] = field(default_factory=dict)

    def could_hold(self, spec: TaskSpec) -> BoolArray:
        """[P] pools whose nodes might hold one copy."""
        nodes = self.nodes
        able = np.ones(len(nodes.pools), bool)
        for part in spec.parts:
            able &= self.workers(part.need, spec.spread_workers) >= part.workers
        if len(spec.parts) > 1:
            for column, asked in (
                (nodes.gpus * MILLI, round(spec.gpus * MILLI)),
                (nodes.cpu_milli, sum(part.workers * part.need.cpu_milli for part in spec.parts)),
                (nodes.memory_mib, sum(part.workers * part.need.memory_mib for part in spec.parts)),
                (np.ones(len(nodes), np.int64), spec.workers if spec.spread_workers else 0),
            ):
                able &= np.bincount(nodes.pool, np.where(nodes.ready, column, 0), len(nodes.pools)) >= asked
        return able

    def workers(self, need: Need, apart: bool) -> IntArray:
        """[P] most workers of one need in each pool; `apart` puts each on a node of its own."""
        if (need, apart) not in self._most:
            self._most[need, apart] = workers_of_empty_pools(self.nodes, need, apart=apart)
        return self._most[need, apart]

    def with_room_for_a_worker(self, spec: TaskSpec) -> BoolArray:
        """[rows] nodes that could hold at least one of its workers."""
        able = np.zeros(len(self.nodes), bool)
        for need in (part.need for part in spec.parts):
            able |= (
                (self.nodes.gpus >= need.gpus)
                & (self.nodes.cpu_milli >= need.cpu_milli)
                & (self.nodes.memory_mib >= need.memory_mib)
            )
        return able
