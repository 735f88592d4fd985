"""Arcs of a flow network, collected in columns: a few thousand at a time, never one by one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from thalweg.scheduling.arrays import FloatArray, IntArray


@dataclass(slots=True)
class ArcList:
    """Tail and head nodes, room in units, and USD a unit, as lists of equally long parts."""

    tails: list[IntArray] = field(default_factory=list)
    heads: list[IntArray] = field(default_factory=list)
    rooms: list[IntArray] = field(default_factory=list)
    usds: list[FloatArray] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(part) for part in self.tails)

    def add(self, tail: IntArray, head: IntArray, room: IntArray, usd: FloatArray) -> None:
        """Append one arc a row."""
        self.tails.append(tail)
        self.heads.append(head)
        self.rooms.append(room)
        self.usds.append(usd)

    def columns(self) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
        """Return (tail, head, room, usd) of all arcs."""
        return (
            np.concatenate(self.tails),
            np.concatenate(self.heads),
            np.concatenate(self.rooms),
            np.concatenate(self.usds),
        )
