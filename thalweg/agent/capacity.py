"""What a region's nodes have, and what the tasks it holds take of it: the agent's own count, made from events alone.

The place job plans capacity; the agent does not trust it. An assignment that its nodes cannot hold is refused, so that
a mistake anywhere shows as a refused assignment and never as two tasks on one GPU.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from thalweg.agent.fleet import NodeLoad, NodeSpec, RegionFleet
from thalweg.scheduling.counted import counted
from thalweg.scheduling.ids import RegionId
from thalweg.streams.contract.messages import AssignmentEvent, NodeShare

WHOLE_MILLI: Final = 1_000


class Capacity:
    """Taken thousandths of every GPU, of the CPUs and of the memory of every node, in whole numbers."""

    def __init__(self, fleets: Iterable[RegionFleet]) -> None:
        self._nodes: dict[tuple[str, str], NodeSpec] = {
            (fleet.region, node.node_id): node for fleet in fleets for node in fleet.nodes.values()
        }
        self._taken: dict[tuple[str, str], list[int]] = {key: [0] * node.gpus for key, node in self._nodes.items()}
        self._cpu_milli: dict[tuple[str, str], int] = dict.fromkeys(self._nodes, 0)
        self._memory_mb: dict[tuple[str, str], int] = dict.fromkeys(self._nodes, 0)

    def objection(self, event: AssignmentEvent) -> str | None:
        """Say why the assignment cannot be held; None if it can."""
        wanted: dict[tuple[str, int], int] = {}
        for share in event.nodes:
            taken = self._taken.get((event.region, share.node_id))
            if taken is None:
                return f"no node {share.node_id!r} in region {event.region}"
            for device, milli in _devices(share):
                if device >= len(taken):
                    return f"node {share.node_id} has {counted(len(taken), 'GPU')}, asked for GPU {device}"
                wanted[share.node_id, device] = wanted.get((share.node_id, device), 0) + milli
        for (node_id, device), milli in wanted.items():
            free = WHOLE_MILLI - self._taken[event.region, node_id][device]
            if milli > free:
                return f"GPU {device} of node {node_id} has {free} of {WHOLE_MILLI} thousandths free, asked for {milli}"
        return self._objection_to_rest(event)

    def _objection_to_rest(self, event: AssignmentEvent) -> str | None:
        """Say which node has not the CPUs or the memory, which several shares may take of one node."""
        wanted: dict[str, tuple[int, int, int]] = {}
        for share in event.nodes:
            cpu, memory, workers = wanted.get(share.node_id, (0, 0, 0))
            wanted[share.node_id] = (cpu + _cpu_milli(share), memory + _memory_mb(share), workers + share.workers)
        for node_id, (cpu, memory, workers) in wanted.items():
            node = self._nodes[event.region, node_id]
            for name, asked, taken, total in (
                ("CPUs", cpu, self._cpu_milli[event.region, node_id], node.cpus),
                ("GB of memory", memory, self._memory_mb[event.region, node_id], node.memory_gb),
            ):
                # The plan rounds what each worker takes, in other units: a thousandth of the node is no difference.
                if asked and taken + asked > total * 1_001 + workers:
                    free = total - taken / 1_000
                    return f"node {node_id} has {free:g} of {total:g} {name} free, asked for {asked / 1_000:g}"
        return None

    def reserve(self, event: AssignmentEvent) -> None:
        """Count what an assignment takes."""
        self._add(event, 1)

    def release(self, event: AssignmentEvent) -> None:
        """Count it no longer."""
        self._add(event, -1)

    def _add(self, event: AssignmentEvent, sign: int) -> None:
        for share in event.nodes:
            taken = self._taken.get((event.region, share.node_id))
            if taken is not None:
                self._cpu_milli[event.region, share.node_id] += sign * _cpu_milli(share)
                self._memory_mb[event.region, share.node_id] += sign * _memory_mb(share)
            for device, milli in _devices(share) if taken is not None else ():
                if taken is not None and device < len(taken):
                    taken[device] += sign * milli

    def memory_gb(self, region: RegionId, node_id: str) -> float:
        """What of a node's memory is taken."""
        return self._memory_mb[region, node_id] / 1_000

    def loads(self, region: RegionId) -> dict[str, NodeLoad]:
        """Share of each node's GPUs that is taken."""
        return {
            node_id: NodeLoad(gpu_utilisation=min(1.0, sum(taken) / (WHOLE_MILLI * len(taken))) if taken else None)
            for (of_region, node_id), taken in self._taken.items()
            if of_region == region
        }


def _cpu_milli(share: NodeShare) -> int:
    return round(share.cpus * 1_000)


def _memory_mb(share: NodeShare) -> int:
    return round(share.memory_gb * 1_000)


def _devices(share: NodeShare) -> Iterator[tuple[int, int]]:
    """Each device a share names, with its thousandths; a device that several workers share is named several times.

    A share without devices takes the first ones: a plain producer of assignments may leave the choice to the node.
    """
    if share.devices:
        milli = share.gpu_milli // len(share.devices) if share.gpu_milli else WHOLE_MILLI
        yield from ((device, milli) for device in share.devices)
    elif share.gpus:
        yield from ((device, WHOLE_MILLI) for device in range(share.gpus))
    elif share.gpu_milli:
        yield 0, share.gpu_milli
