"""GPUs of a region's nodes, and what the tasks it holds take of them: the agent's own count, made from events alone.

The place job plans capacity; the agent does not trust it. An assignment that its nodes cannot hold is refused, so that
a mistake anywhere shows as a refused assignment and never as two tasks on one GPU.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from thalweg.agent.fleet import Fleet, NodeLoad, NodeSpec
from thalweg.streams.contract.messages import AssignmentEvent, NodeShare

WHOLE_MILLI: Final = 1_000


class Capacity:
    """Taken thousandths of every GPU of every node."""

    def __init__(self, fleets: Iterable[Fleet]) -> None:
        self._nodes: dict[tuple[str, str], NodeSpec] = {
            (fleet.region, node.node_id): node for fleet in fleets for node in fleet.nodes.values()
        }
        self._taken: dict[tuple[str, str], list[int]] = {key: [0] * node.gpus for key, node in self._nodes.items()}

    def objection(self, event: AssignmentEvent) -> str | None:
        """Say why the assignment cannot be held; None if it can."""
        wanted: dict[tuple[str, int], int] = {}
        for share in event.nodes:
            taken = self._taken.get((event.region, share.node_id))
            if taken is None:
                return f"no node {share.node_id!r} in region {event.region}"
            for device, milli in _devices(share):
                if device >= len(taken):
                    return f"node {share.node_id} has {len(taken)} GPUs, asked for GPU {device}"
                wanted[share.node_id, device] = wanted.get((share.node_id, device), 0) + milli
        for (node_id, device), milli in wanted.items():
            free = WHOLE_MILLI - self._taken[event.region, node_id][device]
            if milli > free:
                return f"GPU {device} of node {node_id} has {free} of {WHOLE_MILLI} thousandths free, asked for {milli}"
        return None

    def take(self, event: AssignmentEvent) -> None:
        """Count what an assignment takes."""
        self._add(event, 1)

    def release(self, event: AssignmentEvent) -> None:
        """Count it no longer."""
        self._add(event, -1)

    def _add(self, event: AssignmentEvent, sign: int) -> None:
        for share in event.nodes:
            taken = self._taken.get((event.region, share.node_id))
            for device, milli in _devices(share) if taken is not None else ():
                if taken is not None and device < len(taken):
                    taken[device] += sign * milli

    def loads(self, region: str) -> dict[str, NodeLoad]:
        """Share of each node's GPUs that is taken."""
        return {
            node_id: NodeLoad(gpu_utilisation=min(1.0, sum(taken) / (WHOLE_MILLI * len(taken))) if taken else None)
            for (of_region, node_id), taken in self._taken.items()
            if of_region == region
        }


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
