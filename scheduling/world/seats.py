"""What sits where, as columns: one row per placed copy and node, for questions asked of all of them at once.

The world keeps it beside its tasks as copies come and go. Who could give way, when capacity becomes free and what each
tenant holds are then a few vector operations over 150,000 rows, not a walk over 150,000 objects.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from thalweg.scheduling.arrays import BoolArray, IntArray

MICRO: Final = 1_000_000
_FIRST_ROWS: Final = 64


class Seat(NamedTuple):
    """One copy on one node; all integers, so that a row is written in one go. Facts of the copy repeat on each node."""

    node: int
    pool: int
    priority: int
    preemptible: int
    """1 where the task agreed to give way."""
    surplus: int
    """Workers of the copy above its least; 0 unless it is malleable."""
    gpu_milli: int
    """Here on this node, as are CPUs and memory."""
    cpu_milli: int
    memory_mib: int
    copy_gpu_milli: int
    assigned_ms: int
    expected_ms: int
    submitted_ms: int
    start_by_ms: int
    micro_usd_per_hour: int
    micro_usd_again: int
    """What bringing its data once more would cost."""
    order: int
    """The task's order of arrival: breaks ties, whatever rows were used."""
    first: int
    """1 on the first node of the copy: filtering by it gives each copy once."""


_COLUMN: Final = {name: index for index, name in enumerate(Seat._fields)}


class Seats:
    """The table. Rows of copies that left are used again."""

    def __init__(self) -> None:
        # Column by column in memory: questions run down a column of 150,000 rows, and a seat is written once.
        self._cells = np.full((_FIRST_ROWS, len(_COLUMN)), -1, np.int64, order="F")
        self._owner: list[tuple[str, int]] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._owner) - len(self._free)

    def put(self, owner: tuple[str, int], seat: Seat) -> int:
        """Add a seat of a copy (task id, copy index) and return its row."""
        if self._free:
            row = self._free.pop()
            self._owner[row] = owner
        else:
            row = len(self._owner)
            self._owner.append(owner)
            if row == len(self._cells):
                self._cells = np.asfortranarray(np.concatenate([self._cells, np.full_like(self._cells, -1)]))
        self._cells[row] = seat
        return row

    def drop(self, row: int) -> Seat:
        """Take a seat away and return it."""
        seat = Seat(*self._cells[row].tolist())
        self._cells[row, _COLUMN["pool"]] = -1
        self._free.append(row)
        return seat

    def owner(self, row: int) -> tuple[str, int]:
        """Copy (task id, copy index) of a row."""
        return self._owner[row]

    def column(self, name: str) -> IntArray:
        """One column by the name of its field, rows that are not in use included."""
        return self._cells[: len(self._owner), _COLUMN[name]]

    def used(self) -> BoolArray:
        """Mask of the rows in use."""
        return np.asarray(self.column("pool") >= 0)
