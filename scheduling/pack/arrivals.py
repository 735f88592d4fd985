"""Pack a sequence of arrivals onto empty nodes, without departures, and say how it went.

This is the experiment of the FGD paper: arrivals are drawn from a list of pods until their demand would pass a
multiple of the cluster's GPU; each is placed if it fits anywhere. It is pure; reading files and clocks are elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thalweg.scheduling.pack.moves import Running, make_room
from thalweg.scheduling.pack.nodes import GPU_MILLI, IntArray, Nodes, Slot
from thalweg.scheduling.pack.packer import Packer, Request

# A move that brings less than a tenth of a GPU is not worth a restart.
GAIN_GPU_MILLI = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PackRun:
    """What became of each arrival; GPU in milli.

    slots: per arrival where it sits at the end, None if it was refused.
    """

    slots: tuple[Slot | None, ...]
    moved: int
    capacity_gpu_milli: int
    allocated_gpu_milli: int
    allocated_at_full_gpu_milli: int | None  # when arrived demand first reached the capacity; None if it never did

    @property
    def failed(self) -> int:
        """How many arrivals were refused."""
        return sum(slot is None for slot in self.slots)


def draw_arrivals(sizes: Sequence[int], *, seed: int, limit: float) -> list[int]:
    """Return indexes of pods in arrival order: every pod once, shuffled, then drawn with replacement.

    Args:
        sizes: GPU-milli of each pod of the list sorted by name.
        seed: of `random.Random`, for the shuffle and the draws alike.
        limit: GPU-milli; ends before the arrival that would pass it.
    """
    rng = random.Random(seed)
    shuffled = list(range(len(sizes)))
    rng.shuffle(shuffled)
    arrivals: list[int] = []
    demand = 0
    if not any(sizes):
        return shuffled
    while True:
        pod = shuffled[len(arrivals)] if len(arrivals) < len(shuffled) else rng.randrange(len(sizes))
        demand += sizes[pod]
        if demand > limit:
            return arrivals
        arrivals.append(pod)


def run(packer: Packer, requests: Sequence[Request], *, batch: int = 1, moves: float = 0.0) -> PackRun:
    """Place all requests in order.

    Args:
        packer: with its nodes; what they hold already counts as not free.
        requests: one worker each, in arrival order.
        batch: how many consecutive arrivals are decided jointly.
        moves: share of the running that may be moved in all.
    """
    slots: list[Slot | None] = []
    moved = 0
    if moves > 0:
        slots, moved = _run_with_moves(packer, requests, batch=batch, share=moves)
    elif batch == 1:
        slots += packer.place_each(requests)
    else:
        for start in range(0, len(requests), batch):
            slots += packer.place_jointly(requests[start : start + batch])
    return outcome(packer.nodes, requests, slots, moved)


def outcome(nodes: Nodes, requests: Sequence[Request], slots: Sequence[Slot | None], moved: int) -> PackRun:
    """Sum up where the requests, in order of arrival, ended."""
    capacity = int(nodes.gpus.sum()) * GPU_MILLI
    sizes = np.array([need.total_gpu_milli for need, _ in requests], np.int64)
    placed = np.array([slot is not None for slot in slots], np.bool_)
    arrived = np.cumsum(sizes)
    full = int(np.searchsorted(arrived, capacity))
    allocated = np.cumsum(np.where(placed, sizes, 0))
    return PackRun(
        slots=tuple(slots),
        moved=moved,
        capacity_gpu_milli=capacity,
        allocated_gpu_milli=int(allocated[-1]) if len(allocated) else 0,
        allocated_at_full_gpu_milli=int(allocated[full]) if full < len(allocated) else None,
    )


def _run_with_moves(
    packer: Packer, requests: Sequence[Request], *, batch: int, share: float
) -> tuple[list[Slot | None], int]:
    running = Running(len(requests))
    moved = 0
    hopeless: dict[
        Request, int
    ] = {}  # how many ran when no move helped this request: the same state needs no second look
    for start in range(0, len(requests), batch):
        together = requests[start : start + batch]
        for index, slot in enumerate(packer.place_jointly(together), start):
            request = requests[index]
            if slot is not None:
                running.add(index, request, slot)
            elif moved + 1 <= share * running.count and hopeless.get(request) != running.count:
                move = make_room(packer, running, request, gain_gpu_milli=GAIN_GPU_MILLI)
                if move is None:
                    hopeless[request] = running.count
                else:
                    moved += 1
                    other = running.requests[move.moved]
                    assert other is not None
                    running.add(move.moved, other, move.to)
                    running.add(index, request, move.newcomer)
    return running.slots, moved


def count_violations(nodes: Nodes, requests: Sequence[Request], slots: Sequence[Slot | None]) -> int:
    """Count broken limits in a final state, recomputed from the slots alone.

    One for each node over its CPU, each over its memory, each device over a whole GPU, each worker with the wrong
    number of devices, on a device the node does not have, or in a pool it may not use.
    """
    cpu = np.zeros(len(nodes), np.int64)
    memory = np.zeros(len(nodes), np.int64)
    devices: dict[tuple[int, int], int] = {}
    violations = 0
    for (need, pools), slot in zip(requests, slots, strict=True):
        if slot is None:
            continue
        cpu[slot.node] += need.cpu_milli
        memory[slot.node] += need.memory_mib
        violations += int(nodes.pool[slot.node]) not in pools
        violations += len(set(slot.devices)) != need.gpus
        for device in slot.devices:
            violations += not 0 <= device < int(nodes.gpus[slot.node])
            devices[slot.node, device] = devices.get((slot.node, device), 0) + need.gpu_milli
    over: IntArray = (cpu > nodes.cpu_milli).astype(np.int64) + (memory > nodes.memory_mib)
    return violations + int(over.sum()) + sum(used > GPU_MILLI for used in devices.values())
