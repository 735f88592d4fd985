"""What the nodes of a pool can hold together: one more dimension of the problem for every shape of worker.

A pool's free GPUs are a sum, but they lie in pieces: 24 free GPUs on 12 nodes hold no worker of 8. For a shape of
worker, every node holds only so many; a larger worker takes the place of as many as it contains. Summed over the nodes
of a pool that is a capacity no packing can exceed, so plan and bound both know it. Where sizes divide each other, as
1, 2, 4, 8 do, and workers are packed largest first, what keeps these limits does fit the nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray
from thalweg.scheduling.pack.nodes import GPU_MILLI, Need, Nodes
from thalweg.scheduling.problem.model import Problem
from thalweg.scheduling.world.tasks import MIB_PER_GB, MILLI, Part

_UNLIMITED = 1 << 31
_ENDLESS = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class _WorkersNow:
    """Most workers of one need that a node could take now, were nothing else placed."""

    need: Need

    def of(self, nodes: Nodes, rows: IntArray | slice) -> IntArray:
        """Count them, [rows, 1]."""
        need, room = self.need, _endless(nodes, rows)
        if need.gpus:
            devices = nodes.gpu_milli_free[rows].clip(min=0) // need.gpu_milli
            # A worker of several GPUs needs distinct devices; each device serves at most as many workers as it has
            # slices.
            room = np.minimum(room, devices.sum(axis=1) // need.gpus)
            room[(devices > 0).sum(axis=1) < need.gpus] = 0
        return _on_ready(nodes, rows, need, room, nodes.cpu_milli_free, nodes.memory_mib_free)


@dataclass(frozen=True, slots=True)
class _WorkersOfEmpty:
    """Most workers of one need that a node could take if nothing ran there; `apart` is one at most."""

    need: Need
    apart: bool

    def of(self, nodes: Nodes, rows: IntArray | slice) -> IntArray:
        """Count them, [rows, 1]."""
        need, room = self.need, np.minimum(_endless(nodes, rows), 1 if self.apart else _ENDLESS)
        if need.gpus:
            gpus = nodes.gpus[rows]
            slices = gpus * (GPU_MILLI // need.gpu_milli)
            room = np.minimum(room, np.where(gpus >= need.gpus, slices // need.gpus, 0))
        return _on_ready(nodes, rows, need, room, nodes.cpu_milli, nodes.memory_mib)


def workers_by_pool(nodes: Nodes, need: Need) -> IntArray:
    """Most workers of one need that each pool's ready nodes could take now, were nothing else placed: [P]."""
    return nodes.sums.of(_WorkersNow(need))[:, 0]


def workers_of_empty_pools(nodes: Nodes, need: Need, *, apart: bool = False) -> IntArray:
    """Most workers of one need that each pool's ready nodes could take if nothing ran there: [P].

    Args:
        nodes: of the world.
        need: of one worker.
        apart: each worker on a node of its own.
    """
    return nodes.sums.of(_WorkersOfEmpty(need, apart))[:, 0]


def _endless(nodes: Nodes, rows: IntArray | slice) -> IntArray:
    return np.full(len(nodes.pool[rows]), _ENDLESS, np.int64)


def _on_ready(
    nodes: Nodes, rows: IntArray | slice, need: Need, room: IntArray, cpu_milli: IntArray, memory_mib: IntArray
) -> IntArray:
    if need.cpu_milli:
        room = np.minimum(room, cpu_milli[rows].clip(min=0) // need.cpu_milli)
    if need.memory_mib:
        room = np.minimum(room, memory_mib[rows].clip(min=0) // need.memory_mib)
    return np.where(nodes.ready[rows], room, 0)[:, None]


def contained(large: Need, small: Need) -> int:
    """How many workers of the small need one worker of the large need makes room for."""
    number = _UNLIMITED
    if small.gpus:
        number = (large.gpus // small.gpus) * (large.gpu_milli // small.gpu_milli) if large.gpus else 0
    if small.cpu_milli:
        number = min(number, large.cpu_milli // small.cpu_milli)
    if small.memory_mib:
        number = min(number, large.memory_mib // small.memory_mib)
    return 0 if number == _UNLIMITED else number


def with_node_limits(problem: Problem, nodes: Nodes, tasks: Sequence[Sequence[Part]]) -> Problem:
    """Add the dimensions that plain sums over a pool's nodes leave out; the same problem where they leave out nothing.

    Args:
        problem: in GPUs, CPUs and GB; its pools are `nodes.pools`.
        nodes: as they are now.
        tasks: [C] the parts of one copy, by class.
    """
    uses, limits = list[list[float]](), list[FloatArray]()
    for need in dict.fromkeys(part.need for parts in tasks for part in parts):
        worker = np.array([need.total_gpu_milli / MILLI, need.cpu_milli / MILLI, need.memory_mib / MIB_PER_GB])
        with np.errstate(divide="ignore", invalid="ignore"):
            fit = np.floor(problem.pools.capacity / worker * (1.0 + 1e-9))
        summed = np.where(worker > 0, fit, np.inf).min(axis=1)
        most = workers_by_pool(nodes, need)
        if (most < summed).any():
            limits.append(np.minimum(most, summed))
            uses.append([float(sum(part.workers * contained(part.need, need) for part in parts)) for parts in tasks])
    if not limits:
        return problem
    return replace(
        problem,
        pools=replace(problem.pools, capacity=np.column_stack([problem.pools.capacity, *limits])),
        classes=replace(problem.classes, need=np.column_stack([problem.classes.need, *uses])),
    )
