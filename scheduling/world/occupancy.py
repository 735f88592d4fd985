"""What sits where, as columns: one row per placed copy and node, for questions asked of all of them at once.

The world keeps it beside its tasks as copies come and go. Who could give way, when capacity becomes free and what each
tenant holds are then a few vector operations over 150,000 rows, not a walk over 150,000 objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, Self

import numpy as np

from thalweg.scheduling.arrays import BoolArray, IntArray
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.pack.nodes import Need, Slot
from thalweg.scheduling.world.tasks import MILLI, Copy, Task, TaskSpec, Transition
from thalweg.scheduling.world.value import NO_DEADLINE_MS, value_usd_per_hour

MICRO: Final = 1_000_000
_FIRST_ROWS: Final = 64


class OccupancyRow(NamedTuple):
    """One copy on one node; all integers, so that a row is written in one go. Facts of the copy repeat on each node."""

    node: int
    pool: int
    priority: int
    preemptible: int
    """1 where the task agreed to give way."""
    surplus: int
    """Workers of the copy above its least; 0 unless it is elastic."""
    gpu_milli: int
    """Here on this node, as are CPUs and memory."""
    cpu_milli: int
    memory_mib: int
    copy_gpu_milli: int
    assigned_ms: int
    expected_ms: int
    submitted_ms: int
    start_by_ms: int
    micro_usd_of_delay: int
    """What an hour's delay of the copy costs, its deadline aside."""
    micro_usd_per_hour: int
    micro_usd_again: int
    """What bringing its data once more would cost."""
    order: int
    """The task's order of arrival: breaks ties, whatever rows were used."""
    first: int
    """1 on the first node of the copy: filtering by it gives each copy once."""


DERIVED: Final = OccupancyRow._fields.index("micro_usd_of_delay")
"""The column that a task's spec says by the rule of the day: a snapshot does not keep it."""


@dataclass(slots=True, kw_only=True)
class Holding:
    """What a tenant holds now; integers, so that giving back is exact."""

    gpu_milli: int = 0
    cpu_milli: int = 0
    memory_mib: int = 0
    micro_usd_per_hour: int = 0

    @classmethod
    def of(cls, gpu_milli: int, cpu_milli: int, memory_mib: int, micro_usd_per_hour: int) -> Self:
        """Begin with amounts."""
        return cls(
            gpu_milli=gpu_milli, cpu_milli=cpu_milli, memory_mib=memory_mib, micro_usd_per_hour=micro_usd_per_hour
        )

    def gain(self, entry: OccupancyRow) -> None:
        """Hold a row more."""
        self._add(entry, 1)

    def lose(self, entry: OccupancyRow) -> None:
        """Hold a row less."""
        self._add(entry, -1)

    def _add(self, entry: OccupancyRow, sign: int) -> None:
        self.gpu_milli += sign * entry.gpu_milli
        self.cpu_milli += sign * entry.cpu_milli
        self.memory_mib += sign * entry.memory_mib
        self.micro_usd_per_hour += sign * entry.micro_usd_per_hour * entry.first


def occupancy_of(
    task: Task, copy: Copy, slots: Sequence[tuple[Slot, Need]], row: Transition, pool: int
) -> tuple[OccupancyRow, ...]:
    """Describe a copy on each of its nodes.

    Args:
        task: the copy's.
        copy: where it sits.
        slots: what it takes of which nodes.
        row: the row that assigned it.
        pool: index of its pool.
    """
    spec, money = task.spec, row.money
    least = spec.min_workers
    workers = copy.workers if least is not None else 0
    again = 0.0 if money is None else money.egress_usd + money.stall_usd
    shared = {
        "pool": pool,
        "priority": spec.priority,
        "preemptible": int(spec.preemptible),
        "surplus": max(workers - least, 0) if least is not None else 0,
        "copy_gpu_milli": sum(len(slot.devices) * need.gpu_milli for slot, need in slots),
        "assigned_ms": copy.assigned_ms,
        "expected_ms": round(spec.expected_s * MILLI * (spec.workers / workers if workers else 1.0)),
        "submitted_ms": task.submitted_ms,
        "start_by_ms": NO_DEADLINE_MS if spec.start_by_ms is None else spec.start_by_ms,
        "micro_usd_of_delay": micro_usd_of_delay(spec),
        "micro_usd_per_hour": round((row.usd_per_hour or 0.0) * MICRO),
        "micro_usd_again": round(again * MICRO),
        "order": task.order,
    }
    return tuple(
        OccupancyRow(
            node=slot.node,
            gpu_milli=len(slot.devices) * need.gpu_milli,
            cpu_milli=need.cpu_milli,
            memory_mib=need.memory_mib,
            first=int(index == 0),
            **shared,
        )
        for index, (slot, need) in enumerate(slots)
    )


@lru_cache(maxsize=4_096)  # a batch asks for thousands of copies of few specs
def micro_usd_of_delay(spec: TaskSpec) -> int:
    """What an hour's delay of one copy costs, its deadline aside, in millionths of a US dollar."""
    given = float("nan") if spec.value_usd_per_hour is None else spec.value_usd_per_hour / max(spec.replicas, 1)
    return round(float(value_usd_per_hour(spec.priority, spec.gpus, given)) * MICRO)


_COLUMN: Final = {name: index for index, name in enumerate(OccupancyRow._fields)}


class Occupancy:
    """The table. Rows of copies that left are used again."""

    def __init__(self) -> None:
        # Column by column in memory: questions run down a column of 150,000 rows, and a row is written once.
        self._cells = np.full((_FIRST_ROWS, len(_COLUMN)), -1, np.int64, order="F")
        self._owner: list[tuple[TaskId, int]] = []
        self._free: list[int] = []
        self._told = np.zeros((0, 2), np.int64)

    def __len__(self) -> int:
        return len(self._owner) - len(self._free)

    def add(self, owner: tuple[TaskId, int], entry: OccupancyRow) -> int:
        """Add a row of a copy (task id, copy index) and return its row."""
        if self._free:
            row = self._free.pop()
            self._owner[row] = owner
        else:
            row = len(self._owner)
            self._owner.append(owner)
            if row == len(self._cells):
                self._cells = np.asfortranarray(np.concatenate([self._cells, np.full_like(self._cells, -1)]))
        self._cells[row] = entry
        return row

    def add_all(self, owners: Sequence[tuple[TaskId, int]], occupancy: IntArray) -> range:
        """Add many at once to a table without any; return their rows."""
        self._owner = list(owners)
        self._cells = np.full((max(len(occupancy), _FIRST_ROWS), len(_COLUMN)), -1, np.int64, order="F")
        self._cells[: len(occupancy)] = occupancy
        return range(len(occupancy))

    def append_all(self, owners: Sequence[tuple[TaskId, int]], occupancy: IntArray) -> int:
        """Add many at once behind those that are there; return the row of the first."""
        first, end = len(self._owner), len(self._owner) + len(owners)
        self._owner += owners
        if end > len(self._cells):
            grown = np.full((max(end, 2 * len(self._cells)), len(_COLUMN)), -1, np.int64, order="F")
            grown[:first] = self._cells[:first]
            self._cells = grown
        self._cells[first:end] = occupancy
        return first

    def rows(self, numbers: Sequence[int]) -> IntArray:
        """Seats of these rows, [rows, fields]."""
        return np.ascontiguousarray(self._cells[np.array(numbers, np.int64)])

    def remove(self, row: int) -> OccupancyRow:
        """Take a row away and return it."""
        entry = self.entry(row)
        self._cells[row, _COLUMN["pool"]] = -1
        if row < len(self._told):
            self._told[row] = 0
        self._free.append(row)
        return entry

    def entry(self, row: int) -> OccupancyRow:
        """Seat of a row."""
        return OccupancyRow(*self._cells[row].tolist())

    def owner(self, row: int) -> tuple[TaskId, int]:
        """Copy (task id, copy index) of a row."""
        return self._owner[row]

    def column(self, name: str) -> IntArray:
        """One column by the name of its field, rows that are not in use included."""
        return self._cells[: len(self._owner), _COLUMN[name]]

    def used(self) -> BoolArray:
        """Mask of the rows in use."""
        return np.asarray(self.column("pool") >= 0)

    def tell(self, row: int, done_micro: int, checkpointed_ms: int) -> None:
        """Note how far a copy says it is; only what is further than known. A restart forgets it until it says so again.

        Args:
            row: the copy's first.
            done_micro: millionths of its work.
            checkpointed_ms: what is younger is lost when it stops; 0 where it does not say.
        """
        if row >= len(self._told):
            grown = np.zeros((len(self._cells), 2), np.int64)
            grown[: len(self._told)] = self._told
            self._told = grown
        known = self._told[row]
        self._told[row] = max(int(known[0]), done_micro), max(int(known[1]), checkpointed_ms)

    def told(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """What these copies have said by `tell`: done and last checkpoint, 0 where nothing."""
        known = np.zeros((len(rows), 2), np.int64)
        within = rows < len(self._told)
        known[within] = self._told[rows[within]]
        return known[:, 0], known[:, 1]

    def copied(self) -> Self:
        """Copy all of it, for who looks at it while others change it."""
        copy = type(self)()
        copy._cells = np.asfortranarray(self._cells[: len(self._owner)].copy(order="F"))
        copy._owner, copy._free, copy._told = list(self._owner), list(self._free), self._told.copy()
        return copy
