"""Whether workers fit a pool's nodes together, for sure: yes, no, or not known within so many steps.

The packer is quick and may miss what would fit; here every way is looked at, so that a no is a proof. What is the same
is looked at once: nodes in the same state, devices with the same share free, workers with the same need.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Final

from thalweg.scheduling.pack.nodes import GPU_MILLI, Need, Nodes

NodeState = tuple[tuple[int, ...], int, int]
"""Shares free on the devices, ascending; CPUs and memory free."""
NODES_PER_STEP: Final = 16
"""A step goes through all nodes; one among more nodes counts as so many more steps."""


@dataclass(slots=True)
class JointFit:
    """Looks at one question after the other; `steps` is what it may still try."""

    steps: int
    _failed: set[tuple[int, tuple[NodeState, ...]]] = field(default_factory=set)

    def fits(self, needs: Sequence[Need], nodes: Sequence[NodeState]) -> bool | None:
        """Tell whether all workers fit; None where the steps do not suffice to know."""
        if any(need.gpus > 1 and need.gpu_milli < GPU_MILLI for need in needs):
            return None  # which devices such a worker shares is not looked at in every way
        ordered = sorted(needs, key=lambda need: (-need.total_gpu_milli, -need.cpu_milli, -need.memory_mib))
        self._failed.clear()
        return self._place(ordered, 0, tuple(_that_matter(ordered, nodes)))

    def _place(self, needs: Sequence[Need], at: int, nodes: tuple[NodeState, ...]) -> bool | None:
        if at == len(needs):
            return True
        if (at, nodes) in self._failed or _is_too_much(needs[at:], nodes):
            return False
        known: bool | None = False
        tried = set[tuple[NodeState, NodeState]]()
        for row, node in enumerate(nodes):
            for left in _left(needs[at], node):
                if (node, left) in tried:
                    continue
                if self.steps <= 0:
                    return None
                self.steps -= 1 + len(nodes) // NODES_PER_STEP
                tried.add((node, left))
                found = self._place(needs, at + 1, tuple(sorted((*nodes[:row], left, *nodes[row + 1 :]))))
                if found:
                    return True
                known = None if found is None else known
        if known is False:
            self._failed.add((at, nodes))
        return known


def states_of(nodes: Nodes, pool: int) -> list[NodeState]:
    """What is free on a pool's nodes that take tasks."""
    rows = [row for row in nodes.members(pool).tolist() if nodes.ready[row]]
    return [
        (
            tuple(sorted(max(free, 0) for free in nodes.gpu_milli_free[row, : nodes.gpus[row]].tolist())),
            max(int(nodes.cpu_milli_free[row]), 0),
            max(int(nodes.memory_mib_free[row]), 0),
        )
        for row in rows
    ]


def _that_matter(needs: Sequence[Need], nodes: Sequence[NodeState]) -> Iterator[NodeState]:
    """Leave out nodes that none of the workers fits, and of the same state more than there are workers; in order."""
    kinds = set(needs)
    for state, alike in groupby(sorted(nodes)):
        if any(_left(need, state) for need in kinds):
            yield from islice(alike, len(needs))


def _is_too_much(needs: Sequence[Need], nodes: Sequence[NodeState]) -> bool:
    return (
        sum(need.total_gpu_milli for need in needs) > sum(sum(devices) for devices, _, _ in nodes)
        or sum(need.cpu_milli for need in needs) > sum(cpu for _, cpu, _ in nodes)
        or sum(need.memory_mib for need in needs) > sum(memory for _, _, memory in nodes)
    )


def _left(need: Need, node: NodeState) -> list[NodeState]:
    """What a node may be left with once it has taken a worker: a state for each kind of device that it could take."""
    devices, cpu, memory = node
    cpu, memory = cpu - need.cpu_milli, memory - need.memory_mib
    if cpu < 0 or memory < 0:
        return []
    if not need.gpus:
        return [(devices, cpu, memory)]
    fitting = [at for at, free in enumerate(devices) if free >= need.gpu_milli]
    if len(fitting) < need.gpus:
        return []
    if need.gpus > 1:  # whole ones, which are all alike
        taken = set(fitting[: need.gpus])
        return [(tuple(sorted(0 if at in taken else free for at, free in enumerate(devices))), cpu, memory)]
    first_of = {devices[at]: at for at in reversed(fitting)}
    return [
        (tuple(sorted((*devices[:at], devices[at] - need.gpu_milli, *devices[at + 1 :]))), cpu, memory)
        for at in first_of.values()
    ]
