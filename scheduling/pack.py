"""Regional packing: choose the node and the devices for a worker whose pools are already decided."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scheduling.nodes import IntArray, Need, Nodes, Slot

_NEVER = np.iinfo(np.int64).max


class Packer:
    """Places workers on `nodes` and keeps what it derives from them between calls.

    The nodes may change in between through their own methods; the packer notices.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes

    def place(
        self,
        need: Need,
        pools: Sequence[int],
        *,
        workers: int = 1,
        spread: bool = False,
        avoid: Sequence[int] = (),
    ) -> tuple[Slot, ...] | None:
        """Choose slots for all workers and allocate them, or change nothing and return None.

        Args:
            need: what each worker needs.
            pools: allowed pools, by index in `nodes.pools`. A single worker takes the best node of all of them;
                several workers (a gang) stay together in one pool, the first in this order that holds them all.
            workers: how many identical workers; all or none.
            spread: put every worker on a node of its own.
            avoid: rows that must not be used (node-level anti-affinity with other tasks).

        Returns:
            One slot per worker in the order chosen, or None when it does not fit. Equal inputs give equal slots.
        """
        if workers < 1:
            raise ValueError(f"a task has at least one worker, got {workers}")
        if workers == 1:
            slot = self._place_one(need, pools, set(avoid))
            return None if slot is None else (slot,)
        for pool in pools:
            barred = set(avoid)
            slots: list[Slot] = []
            while len(slots) < workers and (slot := self._place_one(need, (pool,), barred)) is not None:
                slots.append(slot)
                if spread:
                    barred.add(slot.node)
            if len(slots) == workers:
                return tuple(slots)
            for slot in slots:
                self.nodes.release(slot, need)
        return None

    def _place_one(self, need: Need, pools: Sequence[int], barred: set[int]) -> Slot | None:
        nodes = self.nodes
        rows = np.unique(np.concatenate([nodes.members(p) for p in pools])) if len(pools) else np.zeros(0, np.int64)
        keep = (nodes.ready[rows] & (nodes.cpu_milli_free[rows] >= need.cpu_milli)) & (
            nodes.memory_mib_free[rows] >= need.memory_mib
        )
        rows = rows[keep]
        if barred:
            rows = rows[~np.isin(rows, np.fromiter(barred, np.int64))]
        if need.gpus:
            rows = rows[(nodes.gpu_milli_free[rows] >= need.gpu_milli).sum(axis=1) >= need.gpus]
        if not len(rows):
            return None
        slot = self._best_fit(need, rows)
        nodes.allocate(slot, need)
        return slot

    def _best_fit(self, need: Need, rows: IntArray) -> Slot:
        free = self.nodes.gpu_milli_free[rows]
        fitting = np.where(free >= need.gpu_milli, free, _NEVER)
        tightest = fitting.min(axis=1) if need.gpus == 1 else np.zeros(len(rows), np.int64)
        order = np.lexsort((rows, self.nodes.cpu_milli_free[rows], free.sum(axis=1), tightest))
        at = int(order[0])
        devices = np.argsort(fitting[at], kind="stable")[: need.gpus]
        return Slot(int(rows[at]), tuple(sorted(int(d) for d in devices)))
