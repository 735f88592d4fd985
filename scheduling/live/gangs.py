"""Unlike workers that have to sit in one pool together: in which order to place them, and a search where orders fail.

The packer places one kind of worker after the other. Which kind comes first decides whether the rest still fits, so a
gang is tried in several orders, and at last worker by worker with steps taken back. What is tried is counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, permutations
from typing import Final

import numpy as np

from thalweg.scheduling.arrays import IntArray
from thalweg.scheduling.pack.nodes import Need, Nodes, Slot
from thalweg.scheduling.world.tasks import Part

MOST_ORDERS: Final = 6
"""Orders of its parts that a gang is tried in, the hardest part first in the first one."""


def orders(parts: Sequence[Part]) -> Iterator[tuple[int, ...]]:
    """Orders of the parts to try; they do not depend on the order in which the request lists them."""

    def hardness(index: int) -> tuple[int, int, int, int]:
        need = parts[index].need
        return -need.total_gpu_milli, -need.cpu_milli, -need.memory_mib, -parts[index].workers

    return islice(permutations(sorted(range(len(parts)), key=hardness)), MOST_ORDERS)


@dataclass(slots=True)
class Search:
    """Looks for slots worker by worker, the hardest first, and takes steps back; `steps` is what it may still try.

    Three rules keep it from trying the same thing twice: of nodes in the same state only the first is tried; of workers
    with the same need a later one never sits on an earlier node; where all that is free is less than all that is still
    needed, nothing is tried.
    """

    nodes: Nodes
    steps: int

    def slots(self, parts: Sequence[Part], pool: int, *, apart: bool) -> list[Sequence[Slot]] | None:
        """Take slots for every worker, by part, or none; None also where the steps were not enough to find any."""
        first, *_ = orders(parts)
        workers = [index for index in first for _ in range(parts[index].workers)]
        rows = self.nodes.members(pool)
        free = [row for row in rows.tolist() if self.nodes.ready[row]]
        needed = np.array([_total(parts[index].need) for index in workers], np.int64)
        taken: list[tuple[int, Slot]] = []
        left = needed[::-1].cumsum(axis=0)[::-1]
        if not self._place([(index, parts[index].need) for index in workers], left, free, apart, taken):
            return None
        return [[slot for of_part, slot in taken if of_part == index] for index in range(len(parts))]

    def _place(
        self,
        workers: Sequence[tuple[int, Need]],
        needed: IntArray,
        rows: Sequence[int],
        apart: bool,
        taken: list[tuple[int, Slot]],
    ) -> bool:
        """Place the workers that are not in `taken` yet; `needed` is what each and those after it need together."""
        at = len(taken)
        if at == len(workers):
            return True
        if self.steps <= 0 or (self._free(rows) < needed[at]).any():
            return False
        part, need = workers[at]
        first = taken[-1][1].node if at and workers[at - 1][1] == need else 0
        seen: set[tuple[object, ...]] = set()
        for row in rows:
            if row < first:
                continue
            slot = self._untried(row, need, seen)
            if slot is None:
                continue
            if self.steps <= 0:
                return False
            self.steps -= 1
            self.nodes.allocate(slot, need)
            taken.append((part, slot))
            left = [other for other in rows if other != row] if apart else rows
            if self._place(workers, needed, left, apart, taken):
                return True
            taken.pop()
            self.nodes.release(slot, need)
        return False

    def _untried(self, row: int, need: Need, seen: set[tuple[object, ...]]) -> Slot | None:
        """A slot on the node, unless a node in the same state, which ends the same way, was `seen` before."""
        nodes = self.nodes
        state = (*nodes.gpu_milli_free[row].tolist(), nodes.cpu_milli_free[row], nodes.memory_mib_free[row])
        if state in seen:
            return None
        seen.add(state)
        return _slot(nodes, row, need)

    def _free(self, rows: Sequence[int]) -> IntArray:
        """What the nodes have free together: milli-GPUs, milli-CPUs, MiB."""
        nodes = self.nodes
        free = nodes.gpu_milli_free[rows].sum(axis=1), nodes.cpu_milli_free[rows], nodes.memory_mib_free[rows]
        return np.array([np.maximum(of_row, 0).sum() for of_row in free], np.int64)


def _total(need: Need) -> tuple[int, int, int]:
    return need.total_gpu_milli, need.cpu_milli, need.memory_mib


def _slot(nodes: Nodes, row: int, need: Need) -> Slot | None:
    """The tightest devices of a node that take one worker."""
    free = nodes.gpu_milli_free[row, : nodes.gpus[row]]
    fitting = np.flatnonzero(free >= need.gpu_milli) if need.gpus else np.zeros(0, np.int64)
    if len(fitting) < need.gpus:
        return None
    chosen = fitting[np.argsort(free[fitting], kind="stable")][: need.gpus]
    slot = Slot(row, tuple(sorted(chosen.tolist())))
    return slot if nodes.fits(slot, need) else None
