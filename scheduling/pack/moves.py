"""Make room for a worker that fits nowhere by moving one running worker to where it is better placed.

A move costs the moved worker its progress since the last checkpoint, so there is a budget, and a move must bring a
minimum: the newcomer's GPU plus the change of expected fill over all nodes. One move per newcomer, never a chain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thalweg.scheduling.pack.nodes import IntArray, Slot
from thalweg.scheduling.pack.packer import Packer, Request

_TRIES = 24  # candidates tried for real per newcomer; more found nothing better on openb
_KEPT = ("node", "device", "milli", "cpu_milli", "memory_mib")


@dataclass(frozen=True, slots=True)
class Move:
    """A running worker's new slot and the newcomer's."""

    moved: int  # index of the running worker
    to: Slot
    newcomer: Slot


class Running:
    """The running workers as columns, so that those whose leaving would make room are found in one pass.

    Only workers on at most one device are kept: they are the small ones, and the only ones worth moving.
    """

    def __init__(self, size: int) -> None:
        """Make room for `size` workers, indexed by the caller's numbers."""
        self.requests: list[Request | None] = [None] * size
        self.slots: list[Slot | None] = [None] * size
        self.columns: dict[str, IntArray] = {name: np.full(size, -1, np.int64) for name in _KEPT}
        self.count = 0

    def add(self, index: int, request: Request, slot: Slot) -> None:
        """Note a worker's slot, or its new one."""
        self.count += self.slots[index] is None
        self.requests[index], self.slots[index] = request, slot
        if len(slot.devices) > 1:
            return
        need = request[0]
        values = (
            slot.node,
            slot.devices[0] if slot.devices else -1,
            need.total_gpu_milli,
            need.cpu_milli,
            need.memory_mib,
        )
        for name, value in zip(_KEPT, values, strict=True):
            self.columns[name][index] = value


def make_room(packer: Packer, running: Running, request: Request, *, gain_gpu_milli: float) -> Move | None:
    """Find the best single move that lets `request` in, do it, and return it; or change nothing and return None.

    Args:
        packer: with the nodes as they are.
        running: who runs where; not changed.
        request: one worker on at most one device that fits nowhere now.
        gain_gpu_milli: least GPU-milli the move must bring.
    """
    need, pools = request
    nodes = packer.nodes
    region = nodes.pools[min(pools)].region
    if need.gpus != 1:
        return None
    best: tuple[float, Move] | None = None
    before = packer.worth(region)
    for index in _candidates(packer, running, request):
        other, old = running.requests[index], running.slots[index]
        assert other is not None and old is not None
        nodes.release(old, other[0])
        free = nodes.gpu_milli_free[old.node]
        device = min((d for d in range(int(nodes.gpus[old.node])) if free[d] >= need.gpu_milli), key=lambda d: free[d])
        newcomer = Slot(old.node, (device,))
        nodes.allocate(newcomer, need)
        to = packer.place(other[0], sorted(other[1]), avoid=(old.node,), learn=False)
        if to is not None:
            gain = need.total_gpu_milli + packer.worth(region) - before
            if gain >= gain_gpu_milli and (best is None or gain > best[0]):
                best = (gain, Move(index, to[0], newcomer))
            nodes.release(to[0], other[0])
        nodes.release(newcomer, need)
        nodes.allocate(old, other[0])
    if best is None:
        return None
    move = best[1]
    other, old = running.requests[move.moved], running.slots[move.moved]
    assert other is not None and old is not None
    nodes.release(old, other[0])
    nodes.allocate(move.newcomer, need)
    nodes.allocate(move.to, other[0])
    return move


def _candidates(packer: Packer, running: Running, request: Request) -> list[int]:
    """Return running workers whose leaving makes room on their node, the smallest GPU first."""
    need, pools = request
    nodes = packer.nodes
    node, device, milli, cpu, memory = (running.columns[name] for name in _KEPT)
    alive = np.flatnonzero(node >= 0)
    rows = node[alive]
    allowed = np.isin(nodes.pool[rows], list(pools)) & nodes.ready[rows]
    alive = alive[
        allowed
        & (milli[alive] < need.gpu_milli)
        & (nodes.cpu_milli_free[rows] + cpu[alive] >= need.cpu_milli)
        & (nodes.memory_mib_free[rows] + memory[alive] >= need.memory_mib)
    ]
    rows = node[alive]
    widest = nodes.gpu_milli_free[rows].max(axis=1)
    own = np.where(device[alive] >= 0, nodes.gpu_milli_free[rows, device[alive]] + milli[alive], 0)
    alive = alive[np.maximum(widest, own) >= need.gpu_milli]
    order = np.lexsort((alive, -cpu[alive], milli[alive]))
    return [int(index) for index in alive[order][:_TRIES]]
