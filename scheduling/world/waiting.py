"""Waiting tasks, grouped into classes of equal needs, so that a plan's effort follows the news and not the queue.

A class that could not be placed is not looked at again until capacity it could use has loosened: 100,000 tasks that
wait for a full world cost a micro-batch nothing but a mask.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final, NamedTuple

import msgspec
import numpy as np

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.pack.seen_shapes import SeenShapes, Shape
from thalweg.scheduling.world.hold import HoldEstimator, as_requested
from thalweg.scheduling.world.tasks import TaskSpec
from thalweg.scheduling.world.value import (
    DEFAULT_RULE,
    HOUR_MS,
    NO_DEADLINE_MS,
    RankRule,
    deadline_times,
    rank,
    value_usd_per_hour,
)


class ClassKey(msgspec.Struct, frozen=True, kw_only=True):
    """What makes waiting tasks interchangeable."""

    spec: TaskSpec
    missing: int
    """Copies that each task needs together (`Task.placed_together`)."""
    taken: frozenset[RegionId]
    """Regions that hold other copies of the task: never again the same."""
    avoid: frozenset[RegionId]
    """Regions where the task failed: only where nothing else will do."""
    barred: frozenset[RegionId] = frozenset()
    """Regions that gave the task back and are not tried again yet."""

    @property
    def closed(self) -> frozenset[RegionId]:
        """Regions that a task may not go to now, whatever its spec allows."""
        return self.taken | self.barred


@dataclass(slots=True, kw_only=True, eq=False)
class WaitingClass:
    """Waiting tasks of one key, oldest first."""

    key: ClassKey
    index: int
    tasks: deque[TaskId] = field(default_factory=deque)
    oldest_order: int = 0
    oldest_ms: int = 0
    impossible: str | None = None
    """Why not even an empty fleet could hold one; such a class is in no window until the fleet has grown."""
    shapes: tuple[tuple[Shape, int], ...] = ()
    """Workers of one of its tasks, all missing copies, with the pools that they may use."""
    left: set[TaskId] = field(default_factory=set)
    """Ids that left while still in `tasks`; they are dropped when they come to the front."""

    def __len__(self) -> int:
        return len(self.tasks) - len(self.left)

    @property
    def gpus(self) -> float:
        """What one of its tasks waits for."""
        return self.key.missing * self.key.spec.gpus

    def position(self, task_id: TaskId) -> int:
        """How many of its tasks come before one of them."""
        ahead = takewhile(lambda other: other != task_id, self.tasks)
        return sum(other not in self.left for other in ahead)


class Turn(NamedTuple):
    """A class that the next plan considers."""

    waiting: WaitingClass
    tasks: int
    """So many of it, the oldest."""
    rank: float
    """`scheduling.world.value.rank`."""


class Line(NamedTuple):
    """All classes that may wait for a place, the highest rank first; columns over them, [N]."""

    rows: IntArray
    """Index of each class."""
    tasks: IntArray
    gpus: FloatArray
    """Of one copy, the least it starts with."""
    hours: FloatArray
    """For which a task holds its place."""
    is_one_copy: BoolArray
    usd_per_hour: FloatArray
    """What an hour's delay of one task costs now."""
    waited_h: FloatArray
    """Since when the oldest has waited."""
    pools: BoolArray
    """[N, P] that it may use at all."""
    fetch_usd: FloatArray
    """[N, P] of bringing its data there."""


class Dearest(NamedTuple):
    """Classes whose delay costs most by GPU, the most first; see `WaitingQueue.dearest`."""

    classes: tuple[WaitingClass, ...]
    usd_per_gpu_hour: FloatArray
    """[N] what an hour's delay of a task costs now, by the GPUs that it waits for."""
    gpus: FloatArray
    """[N] what one copy starts with at the least."""
    pools: BoolArray
    """[N, P] that it may use at all."""


class KeptRoom(NamedTuple):
    """Pools that are kept for gangs, [P]: who may take them all the same."""

    rank: FloatArray
    """Whoever ranks as high; 0 in a pool that is kept for nobody."""
    starts_in_h: FloatArray
    """Whoever has left by then."""
    spare_gpus: FloatArray
    """Whoever needs no more."""


FEW_CLASSES: Final = 16
"""So many classes are all looked at: a plan of them takes few milliseconds."""
MOST_FIRST: Final = 4
"""Classes that are looked at whatever is free, the highest ranks: others may give way to them."""
LEAST_TURN: Final = 64
"""Tasks of a class that are looked at whatever is free: as many as others give way to in one plan, twice over."""
_SLACK: Final = 1e-9


class WaitingQueue:
    """The queue. Rows of its columns are reused when a class empties."""

    def __init__(
        self,
        pools_of: Callable[[ClassKey], BoolArray],
        fetch_usd_of: Callable[[ClassKey], FloatArray] | None = None,
        hold_of: HoldEstimator = as_requested,
    ) -> None:
        """Start empty.

        Args:
            pools_of: mask of the pools that a class may use at all, [P]; asked when a class appears and after
                `forget_pools`.
            fetch_usd_of: what bringing its data into each pool costs, [P]; asked at the same times; None for nothing.
            hold_of: how long a task holds its place.
        """
        self._pools_of = pools_of
        self._fetch_usd_of = fetch_usd_of
        self._hold_of = hold_of
        self._classes: dict[ClassKey, WaitingClass] = {}
        self._by_index: list[WaitingClass | None] = []
        self._by_tenant: dict[str, dict[WaitingClass, None]] = {}
        self._free: list[int] = []
        self._entries: dict[TaskId, tuple[WaitingClass, int, int]] = {}  # class, order, waiting since ms
        self._pools = np.zeros((0, 0), bool)  # [rows, P]
        self._tried = np.zeros(0, np.int64)  # clock of the last fruitless try; -1 never tried
        self._again_ms = np.zeros(0, np.int64)  # when it is looked at again, whatever has happened by then
        self._fetch_usd = np.zeros((0, 0))  # [rows, P] what fetching its data costs
        self._tasks = np.zeros(0, np.int64)  # that wait, 0 in a free row
        self._gpus = np.zeros(0)  # of one task, the least it starts with
        self._all_gpus = np.zeros(0)  # of one task, all its missing copies
        self._gpu_h = np.zeros(0)  # that one task holds
        self._one_copy = np.zeros(0, bool)
        self._gang = np.zeros(0, bool)  # several workers
        self._value = np.zeros(0)  # US dollars an hour of its delay, deadline aside
        self._priority = np.zeros(0, np.int64)
        self._oldest = np.zeros(0, np.int64)
        self._oldest_ms = np.zeros(0, np.int64)
        self._start_by_ms = np.zeros(0, np.int64)
        self._live = np.zeros(0, bool)
        self._parked = np.zeros(0, bool)
        self.seen = SeenShapes()
        self._untold: list[TaskId] = []  # tasks that came to a parked class and were not told why they wait

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, task_id: TaskId) -> bool:
        return task_id in self._entries

    def index_of(self, task_id: TaskId) -> int | None:
        """Index of a waiting task's class; None where it does not wait."""
        entry = self._entries.get(task_id)
        return None if entry is None else entry[0].index

    def classes(self) -> Iterator[WaitingClass]:
        """All classes with waiting tasks."""
        return iter(self._classes.values())

    def enqueue(self, task_id: TaskId, key: ClassKey, order: int, since_ms: int, *, first: bool = False) -> None:
        """Let a task wait; `first` puts it before the others of its class (it was placed once)."""
        self.leave(task_id)
        waiting = self._classes.get(key)
        if waiting is None:
            waiting = self._open(key, order, since_ms)
        self._entries[task_id] = (waiting, order, since_ms)  # the class itself: a key's hash goes through all it needs
        self._tasks[waiting.index] += 1
        self.seen.count(waiting.shapes)
        if task_id in waiting.left:
            # Still in the deque from an earlier wait: take it out for good, so that it stands there once.
            waiting.left.discard(task_id)
            waiting.tasks.remove(task_id)
        (waiting.tasks.appendleft if first else waiting.tasks.append)(task_id)
        self._note_oldest(waiting)
        self._tried[waiting.index] = -1
        if waiting.impossible is not None:
            self._untold.append(task_id)

    def enqueue_all(self, key: ClassKey, entries: Sequence[tuple[TaskId, int, int]]) -> None:
        """Let tasks of one class wait that did not wait before: id, order and since when, in their order."""
        waiting = self._classes.get(key)
        if waiting is None:
            waiting = self._open(key, *entries[0][1:])
        for task_id, order, since_ms in entries:
            self._entries[task_id] = (waiting, order, since_ms)
            waiting.tasks.append(task_id)
        self._tasks[waiting.index] += len(entries)
        self.seen.count(waiting.shapes, len(entries))
        self._note_oldest(waiting)
        self._tried[waiting.index] = -1

    def leave(self, task_id: TaskId) -> None:
        """Let a task wait no longer; nothing happens when it does not."""
        entry = self._entries.pop(task_id, None)
        if entry is None:
            return
        waiting = entry[0]
        self._tasks[waiting.index] -= 1
        if waiting.tasks[0] == task_id:
            waiting.tasks.popleft()
            while waiting.tasks and waiting.tasks[0] in waiting.left:
                waiting.left.discard(waiting.tasks.popleft())
        else:
            waiting.left.add(task_id)
        if len(waiting):
            self._note_oldest(waiting)
        else:
            self._close(waiting)

    def first(self, waiting: WaitingClass, count: int) -> list[TaskId]:
        """Oldest tasks of a class."""
        chosen: list[TaskId] = []
        for task_id in waiting.tasks:
            if len(chosen) == count:
                break
            if task_id not in waiting.left:
                chosen.append(task_id)
        return chosen

    def forget_pools(self) -> None:
        """Ask again which pools every class may use: pools, links or prices have changed. Everything may be tried."""
        self.seen.clear()
        for waiting in self._classes.values():
            self._ask_pools(waiting)
            self.seen.count(waiting.shapes, len(waiting))
        self._tried[:] = -1
        self.unpark()

    def park(self, waiting: WaitingClass, reason: str) -> None:
        """Leave a class out that no empty fleet could hold: it is nobody's turn for it."""
        waiting.impossible = reason
        self._parked[waiting.index] = True
        self._untold += self.first(waiting, len(waiting))

    def unpark(self) -> None:
        """Consider everything again: nodes have come or grown, or who may use them has changed."""
        for row in np.flatnonzero(self._parked).tolist():
            waiting = self._by_index[row]
            assert waiting is not None
            waiting.impossible = None
        self._parked[:] = False

    def impossible(self) -> list[tuple[TaskId, str]]:
        """Tasks that wait for what no empty fleet has, with the reason, each told once."""
        told = [
            (task_id, reason)
            for task_id in dict.fromkeys(self._untold)
            if (entry := self._entries.get(task_id)) and (reason := entry[0].impossible) is not None
        ]
        self._untold.clear()
        return told

    def tenant_loosened(self, tenant: str) -> None:
        """Let a tenant's classes be tried again: it gave something back, so a limit of its own may bind no more."""
        for waiting in self._by_tenant.get(tenant, ()):
            self._tried[waiting.index] = -1

    def tried(self, indices: IntArray, clock: int, again_ms: IntArray | None = None) -> None:
        """Note that these classes were considered at this clock and did not all fit.

        Args:
            indices: of the classes.
            clock: of the loosening that was known then.
            again_ms: when each is looked at again, even if nothing has loosened by then; None for never.
        """
        self._tried[indices] = clock
        self._again_ms[indices] = NO_DEADLINE_MS if again_ms is None else again_ms

    def window(
        self,
        loosened: IntArray,
        max_tasks: int,
        max_classes: int,
        now_ms: int = 0,
        rule: RankRule = DEFAULT_RULE,
        free_gpus: FloatArray | None = None,
        kept: "KeptRoom | None" = None,
        far: BoolArray | None = None,
    ) -> list["Turn"]:
        """Choose what the next plan considers.

        Few classes are all looked at. Of many, those are that the room which is free would go to by rank, the first few
        whatever is free (others may give way to them), and all that were never looked at, so that they are told why
        they wait: the rest would only be found too late in the order again.

        Args:
            loosened: [P] clock at which capacity of the pool last grew.
            max_tasks: most tasks in all.
            max_classes: most classes in all.
            now_ms: ages and deadlines are counted from it.
            rule: of the ranks.
            free_gpus: [P] GPUs that are free now; None where that is no matter.
            kept: of these, those that are kept for gangs.
            far: [classes, P] by index, pools that a class does not take now (`scheduling.live.near_data`).

        Returns:
            Whose turn it is, the highest rank first, then the oldest task.
        """
        if not self._classes:
            return []
        live = self._live & ~self._parked
        may = live & ((self._tried < 0) | (self._again_ms <= now_ms))
        stuck = np.flatnonzero(live & (self._tried >= 0))
        if len(stuck) and len(loosened):
            # Per class the newest loosening among its pools, taken pool by pool: few pools loosen in one batch.
            newer = np.flatnonzero(loosened > self._tried[stuck].min())
            for pool in newer:
                hit = stuck[self._pools[stuck, pool] & (self._tried[stuck] < loosened[pool])]
                may[hit] = True
        return self._by_rank(np.flatnonzero(may), max_classes, max_tasks, now_ms, rule, free_gpus, kept, far)

    def _by_rank(
        self,
        rows: IntArray,
        max_classes: int,
        max_tasks: int,
        now_ms: int,
        rule: RankRule,
        free_gpus: FloatArray | None = None,
        kept: "KeptRoom | None" = None,
        far: BoolArray | None = None,
    ) -> list["Turn"]:
        if not rows.size:
            return []
        ranks = self._ranks(rows, now_ms, rule)
        order = np.lexsort((self._oldest[rows], -ranks))
        rows, ranks = rows[order], ranks[order]
        if free_gpus is not None and len(rows) > FEW_CLASSES:
            chosen_rows = self._for_room(rows, ranks, free_gpus, kept, far)
            rows, ranks = rows[chosen_rows], ranks[chosen_rows]
        chosen: list[Turn] = []
        room = max_tasks
        most = self._most_of_each(rows[:max_classes], free_gpus)
        for row, of_row, of_class in zip(rows[:max_classes].tolist(), ranks.tolist(), most.tolist(), strict=False):
            waiting = self._by_index[row]
            assert waiting is not None
            take = min(len(waiting), of_class, room)
            chosen.append(Turn(waiting, take, of_row))
            room -= take
            if room == 0:
                break
        return chosen

    def _most_of_each(self, rows: IntArray, free_gpus: FloatArray | None) -> IntArray:
        """Tasks of each class that are worth a look: what there is room for, and a few that others may give way to.

        Else a class of a hundred thousand that wait fills the window again and again, and nobody after it has a turn.
        """
        if free_gpus is None:
            return np.full(len(rows), np.iinfo(np.int64).max)
        each = np.maximum(self._gpus[rows], _SLACK)
        fit = np.where(self._pools[rows], np.floor(free_gpus / each[:, None] + _SLACK), 0.0).sum(axis=1)
        return np.where(self._gpus[rows] > 0.0, np.maximum(fit, LEAST_TURN), np.inf).clip(max=2**62).astype(np.int64)

    def _ranks(self, rows: IntArray, now_ms: int, rule: RankRule) -> FloatArray:
        return rank(self._values(rows, now_ms), self._gpu_h[rows], now_ms - self._oldest_ms[rows], rule)

    def _for_room(
        self,
        rows: IntArray,
        ranks: FloatArray,
        free_gpus: FloatArray,
        kept: "KeptRoom | None",
        far: BoolArray | None,
    ) -> IntArray:
        """Hand the room out by rank, in thought, and say which of these rows get some or are looked at anyhow."""
        free = free_gpus.astype(np.float64).copy()
        gpus = self._gpus[rows]
        may = self._pools[rows] & (free >= gpus[:, None] - _SLACK)
        if far is not None:
            may &= ~far[rows]
        if kept is not None:
            hours = self._gpu_h[rows] / np.maximum(gpus, 1.0)
            may &= ~(
                (ranks[:, None] < kept.rank)
                & (hours[:, None] > kept.starts_in_h)
                & (gpus[:, None] > kept.spare_gpus + _SLACK)
            )
        fits = np.flatnonzero(may.any(axis=1))
        taken = self._tried[rows] < 0
        taken[:MOST_FIRST] = True
        least, most = (gpus - _SLACK).tolist(), float(free.max(initial=0.0))
        for at in fits.tolist():
            if most <= _SLACK:
                break
            if least[at] > most:
                continue  # thousands wait, and the largest room is soon gone
            open_ = np.flatnonzero(may[at] & (free >= least[at]))
            if not open_.size:
                continue
            best = int(open_[0])
            if open_.size > 1:
                best = int(open_[np.lexsort((free[open_], self._fetch_usd[rows[at], open_]))[0]])
            waiting = self._by_index[rows[at]]
            assert waiting is not None
            each = max(float(gpus[at]), 1.0)
            free[best] -= each * min(len(waiting), max(free[best] // each, 1.0))
            most = float(free.max())
            taken[at] = True
        return np.flatnonzero(taken)

    def line(self, now_ms: int, rule: RankRule) -> Line:
        """Lay out all that may wait for a place, the highest rank first, then the oldest."""
        rows = np.flatnonzero(self._live & ~self._parked)
        ranks = self._ranks(rows, now_ms, rule)
        rows = rows[np.lexsort((self._oldest[rows], -ranks))]
        return Line(
            rows=rows,
            tasks=self._tasks[rows],
            gpus=self._gpus[rows],
            hours=self._gpu_h[rows] / np.maximum(self._all_gpus[rows], 1.0),
            is_one_copy=self._one_copy[rows],
            usd_per_hour=self._values(rows, now_ms),
            waited_h=np.maximum(now_ms - self._oldest_ms[rows], 0) / HOUR_MS,
            pools=self._pools[rows],
            fetch_usd=self._fetch_usd[rows],
        )

    @property
    def rows(self) -> int:
        """So many classes have an index, whether they wait or not."""
        return len(self._live)

    @property
    def carries(self) -> bool:
        """Whether bringing data costs something for anybody who waits."""
        return bool(self._fetch_usd[self._live].any())

    def fits(self, free_gpus: FloatArray) -> bool:
        """Say whether the GPUs that are free in one pool, [P], are enough for anything that waits."""
        return bool(free_gpus.max(initial=0.0) >= self._gpus[self._live].min(initial=np.inf) - _SLACK)

    def highest_priority(self) -> int:
        """Tell the highest priority of all that waits; -1 where nothing does."""
        return int(self._priority[self._live].max(initial=-1))

    def gangs(self, open_gpus: FloatArray, now_ms: int, rule: RankRule, waited_ms: float = -np.inf) -> Iterator["Turn"]:
        """Go through the classes of several workers that no open pool has GPUs for now, the highest rank first.

        Args:
            open_gpus: [P] free now, and open to who has nothing kept; looked at anew for each class, so that what has
                been kept for one is not taken for room by those that follow.
            now_ms: the moment.
            rule: of the ranks.
            waited_ms: only those whose oldest has waited so long.
        """
        rows = np.flatnonzero(self._live & ~self._parked & self._gang & (now_ms - self._oldest_ms >= waited_ms))
        if not rows.size:
            return
        ranks = self._ranks(rows, now_ms, rule)
        for at in np.lexsort((self._oldest[rows], -ranks)).tolist():
            row = int(rows[at])
            if not (self._pools[row] & (open_gpus >= self._gpus[row] - _SLACK)).any():
                waiting = self._by_index[row]
                assert waiting is not None
                yield Turn(waiting, 1, float(ranks[at]))

    def stuck(self, max_classes: int, max_tasks: int, now_ms: int, rule: RankRule = DEFAULT_RULE) -> list["Turn"]:
        """Choose the highest-ranked classes for which a plan found no room, as `window` does those that it looks at.

        Args:
            max_classes: most classes.
            max_tasks: most tasks in all.
            now_ms: ages and deadlines are counted from it.
            rule: of the ranks.
        """
        rows = np.flatnonzero(self._live & ~self._parked & (self._tried >= 0))
        return self._by_rank(rows, max_classes, max_tasks, now_ms, rule)

    def gpus_ahead(self, task_id: TaskId, usable: BoolArray, now_ms: int, rule: RankRule = DEFAULT_RULE) -> float:
        """GPUs of the waiting tasks that come before this one and may use one of these pools.

        Args:
            task_id: whom they come before.
            usable: pools, [P].
            now_ms: the moment.
            rule: of the ranks.
        """
        own, order, _ = self._entries.get(task_id, (None, 0, 0))
        rows = np.flatnonzero(self._live & ~self._parked)
        if not rows.size:
            return 0.0
        rows = rows[(self._pools[rows] & usable).any(axis=1)]
        ranks = self._ranks(rows, now_ms, rule)
        mine = 0.0 if own is None else float(self._ranks(np.array([own.index]), now_ms, rule)[0])
        before = (ranks > mine) | ((ranks == mine) & (self._oldest[rows] < order))
        gpus = 0.0
        for row, is_before in zip(rows.tolist(), before.tolist(), strict=True):
            waiting = self._by_index[row]
            assert waiting is not None
            if waiting is own:  # in its own class the order of arrival decides
                gpus += waiting.position(task_id) * waiting.gpus
            elif is_before:
                gpus += len(waiting) * waiting.gpus
        return gpus

    def delay_usd_per_hour(self, now_ms: int) -> float:
        """Sum what an hour's delay of every task that waits costs now, but of those that no plan could start."""
        rows = np.flatnonzero(self._live & ~self._parked)
        return float((self._tasks[rows] * self._values(rows, now_ms)).sum())

    def dearest(self, most: int, now_ms: int) -> Dearest:
        """Choose the classes whose delay costs most by GPU, of those that wait for GPUs which a fleet could have.

        Args:
            most: so many.
            now_ms: deadlines are counted from it.
        """
        rows = np.flatnonzero(self._live & ~self._parked & (self._all_gpus > 0))
        by_gpu = self._values(rows, now_ms) / self._all_gpus[rows]
        if len(rows) > most:
            rows = rows[np.argpartition(-by_gpu, most - 1)[:most]]
            by_gpu = self._values(rows, now_ms) / self._all_gpus[rows]
        order = np.lexsort((self._oldest[rows], -by_gpu))
        rows = rows[order]
        classes = tuple(waiting for row in rows.tolist() if (waiting := self._by_index[row]) is not None)
        return Dearest(classes, by_gpu[order], self._gpus[rows], self._pools[rows])

    def _values(self, rows: IntArray, now_ms: int) -> FloatArray:
        """US dollars an hour of the delay of one task of each class, as it is now."""
        return np.asarray(self._value[rows] * deadline_times(self._start_by_ms[rows] - now_ms))

    def _open(self, key: ClassKey, order: int, since_ms: int) -> WaitingClass:
        if self._free:
            index = self._free.pop()
        else:
            index = len(self._by_index)
            self._by_index.append(None)
            self._grow(index + 1)
        waiting = WaitingClass(key=key, index=index, oldest_order=order, oldest_ms=since_ms)
        self._classes[key] = waiting
        self._by_index[index] = waiting
        self._ask_pools(waiting)
        spec = key.spec
        gpus, copies = spec.gpus, max(key.missing, 1)
        least = 1.0 if spec.min_workers is None else spec.min_workers / max(spec.workers, 1)
        self._tasks[index] = 0
        self._gpus[index] = gpus * least
        self._all_gpus[index] = gpus * copies
        self._one_copy[index] = copies == 1
        self._gang[index] = spec.workers > 1 and gpus > 1.0
        self._gpu_h[index] = max(gpus, 1.0) * copies * self._hold_of(spec).hours
        given = np.nan if spec.value_usd_per_hour is None else spec.value_usd_per_hour
        self._value[index] = value_usd_per_hour(spec.priority, gpus * copies, given)
        self._priority[index] = spec.priority
        self._oldest[index] = order
        self._oldest_ms[index] = since_ms
        self._start_by_ms[index] = NO_DEADLINE_MS if key.spec.start_by_ms is None else key.spec.start_by_ms
        self._by_tenant.setdefault(key.spec.tenant, {})[waiting] = None
        self._live[index] = True
        self._tried[index] = -1
        self._again_ms[index] = NO_DEADLINE_MS
        return waiting

    def _ask_pools(self, waiting: WaitingClass) -> None:
        mask = self._pools_of(waiting.key)
        if self._pools.shape[1] != len(mask):
            self._pools = np.zeros((len(self._live), len(mask)), bool)
            self._fetch_usd = np.zeros((len(self._live), len(mask)))
        self._pools[waiting.index] = mask
        usable = frozenset(np.flatnonzero(mask).tolist())
        copies = max(waiting.key.missing, 1)
        waiting.shapes = tuple(((part.need, usable), part.workers * copies) for part in waiting.key.spec.parts)
        if self._fetch_usd_of is not None:
            self._fetch_usd[waiting.index] = self._fetch_usd_of(waiting.key)

    def _note_oldest(self, waiting: WaitingClass) -> None:
        _, order, since_ms = self._entries[waiting.tasks[0]]
        waiting.oldest_order, waiting.oldest_ms = order, since_ms
        self._oldest[waiting.index] = order
        self._oldest_ms[waiting.index] = since_ms

    def _close(self, waiting: WaitingClass) -> None:
        del self._classes[waiting.key]
        of_tenant = self._by_tenant[waiting.key.spec.tenant]
        del of_tenant[waiting]
        if not of_tenant:
            del self._by_tenant[waiting.key.spec.tenant]
        self._by_index[waiting.index] = None
        self._live[waiting.index] = self._parked[waiting.index] = False
        self._free.append(waiting.index)

    def _grow(self, rows: int) -> None:
        have = len(self._live)
        if rows <= have:
            return
        more = max(rows, 2 * have, 64) - have
        self._pools = np.concatenate([self._pools, np.zeros((more, self._pools.shape[1]), bool)])
        self._tried = np.concatenate([self._tried, np.full(more, -1, np.int64)])
        self._again_ms = np.concatenate([self._again_ms, np.full(more, NO_DEADLINE_MS, np.int64)])
        self._fetch_usd = np.concatenate([self._fetch_usd, np.zeros((more, self._fetch_usd.shape[1]))])
        self._tasks = np.concatenate([self._tasks, np.zeros(more, np.int64)])
        self._gpus = np.concatenate([self._gpus, np.zeros(more)])
        self._all_gpus = np.concatenate([self._all_gpus, np.zeros(more)])
        self._gpu_h = np.concatenate([self._gpu_h, np.zeros(more)])
        self._one_copy = np.concatenate([self._one_copy, np.zeros(more, bool)])
        self._gang = np.concatenate([self._gang, np.zeros(more, bool)])
        self._value = np.concatenate([self._value, np.zeros(more)])
        self._priority = np.concatenate([self._priority, np.zeros(more, np.int64)])
        self._oldest = np.concatenate([self._oldest, np.zeros(more, np.int64)])
        self._oldest_ms = np.concatenate([self._oldest_ms, np.zeros(more, np.int64)])
        self._start_by_ms = np.concatenate([self._start_by_ms, np.zeros(more, np.int64)])
        self._live = np.concatenate([self._live, np.zeros(more, bool)])
        self._parked = np.concatenate([self._parked, np.zeros(more, bool)])
