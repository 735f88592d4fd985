"""What runs and may move, as columns: how long each copy has to go on, and what it would lose."""

from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np

from thalweg.scheduling.again.proposals import LookLimits, RunLeft
from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.live.relocation import class_of
from thalweg.scheduling.passed import has_passed
from thalweg.scheduling.world.fleet import CopyKey
from thalweg.scheduling.world.occupancy import MICRO
from thalweg.scheduling.world.tasks import Copy, Task, TaskSpec
from thalweg.scheduling.world.value import HOUR_MS
from thalweg.scheduling.world.waiting import ClassKey
from thalweg.scheduling.world.world import World

MOST_LEARNT: Final = 20_000
"""Copies whose needs one look reads from their tasks, a tenth of a second; the others of a new world have their turn in
the next ones."""
MOST_KEPT: Final = 50_000
"""Needs that are remembered between looks: where every task has its own, they are forgotten now and then."""
UNKNOWN: Final = -1
"""Class of a copy that does not move: it may not, or nothing is known of it yet."""
_HOUR_S: Final = 3_600.0


class ClassBook:
    """Which copies are priced alike. Kept between looks, because most copies are the same in the next one."""

    def __init__(self) -> None:
        self.keys: list[ClassKey] = []
        self.tenants: list[str] = []
        self._index: dict[ClassKey, int] = {}
        self._tenant_index: dict[str, int] = {}
        self._of_spec: dict[tuple[TaskSpec, int], int] = {}
        self._rows = np.zeros((0, 4), np.int64)  # order, assigned_ms, class, tenant

    def classes(self, world: World, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Class and tenant of each copy, UNKNOWN where it does not move.

        Args:
            world: whose tasks are looked up, none of them changed.
            rows: of the copies in its occupancy, the first of each.
        """
        if len(self.keys) > MOST_KEPT or len(self._of_spec) > MOST_KEPT:
            self.__init__()  # type: ignore[misc]
        size = int(rows.max(initial=-1)) + 1
        if size > len(self._rows):
            grown = np.full((max(size, 2 * len(self._rows)), 4), UNKNOWN, np.int64)
            grown[: len(self._rows)] = self._rows
            self._rows = grown
        stamps = np.stack([world.occupancy.column(name)[rows] for name in ("order", "assigned_ms")], axis=1)
        is_new = (self._rows[rows, :2] != stamps).any(axis=1)
        self._rows[rows[is_new], 2] = UNKNOWN
        for at in np.flatnonzero(is_new)[:MOST_LEARNT].tolist():
            row = int(rows[at])
            self._rows[row] = *stamps[at], *self._learn(world, row, int(stamps[at, 1]))
        return self._rows[rows, 2], self._rows[rows, 3]

    def _learn(self, world: World, row: int, assigned_ms: int) -> tuple[int, int]:
        task_id, index = world.occupancy.owner(row)
        task = world.tasks.get(task_id)
        copy = None if task is None else task.copies.get(index)
        if task is None or copy is None or copy.assigned_ms != assigned_ms or not may_move(task, copy):
            return UNKNOWN, UNKNOWN
        name = task.spec.tenant
        tenant = self._tenant_index.get(name)
        if tenant is None:
            tenant = self._tenant_index[name] = len(self.tenants)
            self.tenants.append(name)
        alone = task.spec.replicas == 1 and not (task.avoid or task.barred or task.done_regions)
        # Equal specs are one class; the copies of a task that has several are told apart by where the others are.
        short = (task.spec, copy.workers)
        known = self._of_spec.get(short) if alone else None
        if known is None:
            known = self._number(_priced_alike(class_of(task, copy)))
            if alone:
                self._of_spec[short] = known
        return known, tenant

    def _number(self, key: ClassKey) -> int:
        known = self._index.get(key)
        if known is None:
            known = self._index[key] = len(self.keys)
            self.keys.append(key)
        return known


def may_move(task: Task, copy: Copy) -> bool:
    """Whether a copy lets itself be moved.

    Its task agreed to give way, nobody is served by it meanwhile, and nobody has put it where it is by hand.
    """
    return task.spec.preemptible and not task.spec.terms.overlaps and not copy.by_hand


def _priced_alike(key: ClassKey) -> ClassKey:
    """Leave out of a class what no price depends on; its length counts by powers of two, for the risk on spot."""
    hours = max(key.spec.expected_s, 1.0) / _HOUR_S
    return msgspec.structs.replace(
        key,
        spec=replace(
            key.spec,
            expected_s=_HOUR_S * 2.0 ** round(np.log2(hours)),
            priority=500,
            tenant="",
            start_by_ms=None,
            min_workers=None,
            max_workers=None,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MovableCopies:
    """Copies that may move, one row each.

    Attributes:
        row: in the occupancy, the first of the copy.
        pool: where it is.
        kind: its class in the book.
        tenant: index in the book's.
        left_h: hours of its work that are left.
        lost_h: hours that it would do again, start-up included.
        order: the task's order of arrival: breaks ties.
    """

    row: IntArray
    pool: IntArray
    kind: IntArray
    tenant: IntArray
    left_h: FloatArray
    lost_h: FloatArray
    order: IntArray

    def __len__(self) -> int:
        return len(self.row)

    def run(self, at: int) -> RunLeft:
        """How one of them goes on."""
        return RunLeft(left_h=float(self.left_h[at]), lost_h=float(self.lost_h[at]))


def running_of(world: World, book: ClassBook, limits: LookLimits, now_ms: int) -> MovableCopies:
    """Look at everything that is placed.

    Args:
        world: as it is.
        book: what earlier looks know of the copies' needs.
        limits: of the look.
        now_ms: the moment.
    """
    occupancy = world.occupancy
    assigned = occupancy.column("assigned_ms")
    may: BoolArray = (
        occupancy.used()
        & (occupancy.column("first") == 1)
        & (occupancy.column("preemptible") == 1)
        & has_passed(assigned, now_ms, limits.rest_ms)
    )
    rows = np.flatnonzero(may)
    kind, tenant = book.classes(world, rows)
    rows, kind, tenant = rows[kind >= 0], kind[kind >= 0], tenant[kind >= 0]
    done_micro, checkpointed = occupancy.told(rows)
    left_h, lost_h = _hours(
        occupancy.column("expected_ms")[rows], assigned[rows], done_micro, checkpointed, now_ms, limits
    )
    return MovableCopies(
        row=rows,
        pool=occupancy.column("pool")[rows],
        kind=kind,
        tenant=tenant,
        left_h=left_h,
        lost_h=lost_h,
        order=occupancy.column("order")[rows],
    )


def run_left(world: World, copy: Copy, limits: LookLimits, now_ms: int) -> RunLeft:
    """Say how one copy goes on; see `running_of`."""
    rows = np.array(copy.occupancy[:1], np.int64)
    done_micro, checkpointed = world.occupancy.told(rows)
    expected, assigned = (world.occupancy.column(name)[rows] for name in ("expected_ms", "assigned_ms"))
    left_h, lost_h = _hours(expected, assigned, done_micro, checkpointed, now_ms, limits)
    return RunLeft(left_h=float(left_h[0]), lost_h=float(lost_h[0]))


def copy_at(world: World, held: CopyKey, assigned_ms: int) -> tuple[Task, Copy] | None:
    """Find a copy that is still placed where it was; None where it is not."""
    task = world.tasks.get(held[0])
    copy = None if task is None else task.copies.get(held[1])
    return None if task is None or copy is None or copy.assigned_ms != assigned_ms else (task, copy)


def _hours(
    expected_ms: IntArray,
    assigned_ms: IntArray,
    done_micro: IntArray,
    checkpointed_ms: IntArray,
    now_ms: int,
    limits: LookLimits,
) -> tuple[FloatArray, FloatArray]:
    """Hours of work left, and hours to do again; who is over its time is taken to end at once, and never moves."""
    elapsed = np.maximum(now_ms - assigned_ms, 0)
    left = np.where(done_micro > 0, expected_ms * (1.0 - done_micro / MICRO), expected_ms - elapsed)
    since = np.maximum(now_ms - np.maximum(assigned_ms, np.minimum(checkpointed_ms, now_ms)), 0)
    return np.maximum(left, 0.0) / HOUR_MS, since / HOUR_MS + limits.start_up_s / _HOUR_S
