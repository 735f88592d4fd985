"""All tasks as columns in memory: found, sorted and grouped in milliseconds, however many there are.

The meaning is that of `task_list`, whose filter and orders these answer; a test compares the two. What repeats (state,
tenant, regions, reason) is a number that stands for it; what is unique (ids, names) stays with Arrow. Ids are put in
order once, when many have been read; those that come later are merged into that order.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from thalweg.query.reports.task_list import TaskFilter, TaskOrder, like
from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.decisions.array_words import array_of
from thalweg.sync.ledger.request_size import sizes_of

READ_COLUMNS: Final = (
    *("task_id", "state", "epoch", "attempt", "regions", "tenant", "priority", "reason", "cost_usd_per_hour"),
    *("submitted_at", "changed_at", "request", "name", "held", "value_usd_per_hour"),
)
"""Columns of `tasks` that these are made of."""
AnyOrder = TaskOrder | Literal["gpus"]
"""What a task asks for is in no column of the table."""
_NONE: Final = -1
_NULL: Final = np.iinfo(np.int64).min
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_AFTER: Final = 50_000
"""Rows that may have come since the ids were put in order."""


class TaskGrouping(StrEnum):
    """What tasks are counted together by."""

    STATE = "state"
    TENANT = "tenant"
    REGION = "region"
    ARRAY = "array"
    KIND = "kind"


class _Words:
    """Values that repeat, each as a number."""

    def __init__(self) -> None:
        self.words: list[Any] = []
        self._number_of: dict[Any, int] = {}

    def number(self, word: Any) -> int:
        if word is None:
            return _NONE
        found = self._number_of.get(word)
        if found is None:
            found = self._number_of[word] = len(self.words)
            self.words.append(word)
        return found

    def known(self, word: Any) -> int:
        """Give a word's number; one that no row has where it is unknown."""
        return self._number_of.get(word, len(self.words))

    def word(self, number: int) -> Any:
        return None if number < 0 else self.words[number]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTasks:
    """A page of the tasks that were found."""

    matching: int
    by_state: dict[str, int]
    """All that were found, by the name of their state."""
    tasks: list[dict[str, Any]]
    """The page's, with their figures."""


class TaskIndex:
    """See the module's words. Any thread may ask while another writes."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._rows = 0
        self._ids: list[str] = []
        self._names: list[str | None] = []
        self._row_of: dict[str, int] = {}
        self._states, self._tenants, self._reasons = _Words(), _Words(), _Words()
        self._places, self._kinds, self._arrays = _Words(), _Words(), _Words()
        self._whole: dict[str, IntArray] = {
            name: np.empty(1_024, kind)
            for name, kind in (
                *(("state", np.int8), ("tenant", np.int32), ("reason", np.int32), ("places", np.int32)),
                *(("kind", np.int8), ("array", np.int32), ("priority", np.int64), ("submitted", np.int64)),
                *(("changed", np.int64), ("epoch", np.int32), ("attempt", np.int32), ("held", np.int8)),
            )
        }
        self._real: dict[str, FloatArray] = {name: np.empty(1_024) for name in ("cost", "gpus", "value")}
        self._settled = 0
        """Rows whose ids are in order below."""
        self._order: IntArray = np.empty(0, np.int64)
        self._settled_ids = self._settled_labels = pa.array([], pa.large_string())
        self._renamed: set[int] = set()
        self._after: list[tuple[int, str, int]] = []
        """Rows that came later, in order: place among the settled, id, row."""
        self._ranks: IntArray | None = None

    def __len__(self) -> int:
        """Count the tasks."""
        return self._rows

    def __contains__(self, task_id: str) -> bool:
        """Tell whether a task is known."""
        return task_id in self._row_of

    # Writing

    def put(self, tasks: pa.Table | pa.RecordBatch) -> None:
        """Take rows of `tasks`: new ones, and others in place of what was known of a task."""
        columns = {
            name: (_microseconds(tasks.column(name)) if name.endswith("_at") else tasks.column(name)).to_pylist()
            for name in READ_COLUMNS
        }
        needs = sizes_of(columns["request"])
        with self._lock:
            rows = np.fromiter(map(self._row, columns["task_id"]), np.int64, len(needs))
            self._make_room()
            for name, words, values in (
                ("state", self._states, columns["state"]),
                ("tenant", self._tenants, columns["tenant"]),
                ("reason", self._reasons, columns["reason"]),
                ("places", self._places, (None if value is None else tuple(value) for value in columns["regions"])),
                ("kind", self._kinds, (one.kind for one in needs)),
                ("array", self._arrays, map(array_of, columns["task_id"])),
            ):
                self._whole[name][rows] = np.fromiter(map(words.number, values), np.int64, len(needs))
            for name, listed in (
                ("priority", columns["priority"]),
                ("submitted", columns["submitted_at"]),
                ("changed", columns["changed_at"]),
            ):
                self._whole[name][rows] = [_NULL if value is None else value for value in listed]
            for name in ("epoch", "attempt", "held"):
                self._whole[name][rows] = [value or 0 for value in columns[name]]
            for name, listed in (("cost", columns["cost_usd_per_hour"]), ("value", columns["value_usd_per_hour"])):
                self._real[name][rows] = [np.nan if value is None else value for value in listed]
            self._real["gpus"][rows] = [one.gpus() for one in needs]
            for row, name in zip(rows.tolist(), columns["name"], strict=True):
                if self._names[row] != name:
                    self._names[row] = name
                    if row < self._settled:
                        self._renamed.add(row)

    def _row(self, task_id: str) -> int:
        row = self._row_of.get(task_id)
        if row is None:
            row = self._row_of[task_id] = self._rows
            self._rows += 1
            self._ids.append(task_id)
            self._names.append(None)
            self._ranks = None
        return row

    def _make_room(self) -> None:
        have = len(self._real["cost"])
        if self._rows <= have:
            return
        size = max(self._rows, have * 2)
        for table in (self._whole, self._real):
            for name, values in table.items():
                table[name] = np.concatenate([values, np.empty(size - have, values.dtype)])

    def settle(self) -> None:
        """Put all ids in order: a second for a million, so it is done when many were read and seldom afterwards."""
        with self._lock:
            self._settled = self._rows
            self._settled_ids = pa.array(self._ids, pa.large_string())
            labels = [name or task_id for name, task_id in zip(self._names, self._ids, strict=True)]
            self._settled_labels = pa.array(labels, pa.large_string())
            self._order = pc.array_sort_indices(self._settled_ids).to_numpy().astype(np.int64)
            self._renamed.clear()
            self._after.clear()
            self._ranks = None

    def _ranked(self) -> IntArray:
        """Give each row's place in the order of the ids."""
        if self._rows - self._settled > _MOST_AFTER:
            self.settle()
        if self._ranks is not None:
            return self._ranks
        known, order = self._settled + len(self._after), self._order
        for row in range(known, self._rows):
            place = bisect_left(range(self._settled), self._ids[row], key=lambda at: self._ids[order[at]])
            self._after.append((place, self._ids[row], row))
        self._after.sort()
        places = np.fromiter((place for place, _, _ in self._after), np.int64, len(self._after))
        later = np.fromiter((row for _, _, row in self._after), np.int64, len(self._after))
        ranks = np.empty(self._rows, np.int64)
        ranks[order] = np.arange(self._settled) + np.searchsorted(places, np.arange(self._settled), side="right")
        ranks[later] = places + np.arange(len(later))
        self._ranks = ranks
        return ranks

    # Reading

    def find(
        self,
        wanted: TaskFilter,
        order: AnyOrder = TaskOrder.CHANGED,
        *,
        turned: bool = False,
        limit: int,
        offset: int = 0,
    ) -> FoundTasks:
        """Find tasks, as `task_list.list_tasks` does.

        Args:
            wanted: which.
            order: what comes first; the id decides between equals, what is null comes last.
            turned: the other way round.
            limit: so many are given in full.
            offset: behind so many others.
        """
        with self._lock:
            rows = np.flatnonzero(self._mask(wanted))
            counts = np.bincount(self._whole["state"][rows], minlength=len(self._states.words))
            chosen = self._first(rows, order, turned, offset, limit)
            return FoundTasks(
                matching=len(rows),
                by_state={
                    word: int(counts[number])
                    for number, word in sorted(enumerate(self._states.words), key=_by_word)
                    if counts[number]
                },
                tasks=[self._shown(row) for row in chosen.tolist()],
            )

    def group(self, wanted: TaskFilter, by: TaskGrouping) -> list[dict[str, Any]]:
        """Count tasks by what they have in common, the largest group first: all, by state, their GPUs and prices."""
        with self._lock:
            rows = np.flatnonzero(self._mask(wanted))
            if by is TaskGrouping.REGION:
                keys, rows = self._by_region(rows)
                words = self._region_names
            else:
                column = {TaskGrouping.STATE: "state", TaskGrouping.KIND: "kind"}.get(by, by.value)
                keys = self._whole[column][rows].astype(np.int64)
                words = {
                    TaskGrouping.STATE: self._states,
                    TaskGrouping.TENANT: self._tenants,
                    TaskGrouping.ARRAY: self._arrays,
                    TaskGrouping.KIND: self._kinds,
                }[by].words
            if by is TaskGrouping.ARRAY:
                rows, keys = rows[keys >= 0], keys[keys >= 0]
            size, states = len(words) + 1, max(len(self._states.words), 1)
            keys = np.where(keys < 0, len(words), keys)  # what has none comes last of the words
            cells = np.bincount(keys * states + self._whole["state"][rows], minlength=size * states)
            by_state = cells.reshape(size, states)
            running = np.isin(self._whole["state"][rows], [self._states.known(s) for s in ("assigned", "running")])
            gpus = np.bincount(keys, self._real["gpus"][rows], size)
            held = np.bincount(keys, self._real["gpus"][rows] * running, size)
            cost = np.bincount(keys, np.nan_to_num(self._real["cost"][rows]), size)
            totals = by_state.sum(axis=1)
            found = [
                {
                    by.value: None if key == len(words) else words[key],
                    "tasks": int(totals[key]),
                    "by_state": {
                        word: int(by_state[key, number])
                        for number, word in enumerate(self._states.words)
                        if by_state[key, number]
                    },
                    "gpus": float(gpus[key]),
                    "placed_gpus": float(held[key]),
                    "usd_per_hour": float(cost[key]),
                }
                for key in np.flatnonzero(totals).tolist()
            ]
        return sorted(found, key=lambda row: (-row["tasks"], str(row[by.value] or "")))

    def states_of(self, task_ids: Iterable[str]) -> list[dict[str, Any]]:
        """Give what is known of some tasks; of those that are not known, nothing."""
        with self._lock:
            rows = (self._row_of.get(task_id) for task_id in task_ids)
            return [self._shown(row) for row in rows if row is not None]

    def waiting_reasons(self, wanted: TaskFilter, limit: int) -> list[dict[str, Any]]:
        """Count the reasons of those that are meant, the most frequent first."""
        with self._lock:
            codes = self._whole["reason"][: self._rows][self._mask(wanted)]
            counts = np.bincount(codes[codes >= 0], minlength=1)
            first = np.argsort(-counts, kind="stable")[:limit]
            return [
                {"reason": self._reasons.words[one], "tasks": int(counts[one])} for one in first.tolist() if counts[one]
            ]

    def _by_region(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Give each row once for each region that it has a copy in, and once without one where it has none."""
        regions = _Words()
        of_places = [[regions.number(region) for region in places] for places in self._places.words]
        self._region_names = regions.words
        places = self._whole["places"][rows]
        most = max(map(len, of_places), default=0)
        table = np.full((len(of_places) + 1, max(most, 1)), -2, np.int64)  # -2: no further copy
        for number, listed in enumerate(of_places):
            table[number, : len(listed)] = listed
        table[:, 0] = np.where(table[:, 0] == -2, _NONE, table[:, 0])
        keys, found = [], []
        for column in range(table.shape[1]):
            of_column = table[places, column]  # a row without any has the number -1: the last line of the table
            there = of_column != -2
            keys.append(of_column[there])
            found.append(rows[there])
        return np.concatenate(keys), np.concatenate(found)

    def _mask(self, wanted: TaskFilter) -> BoolArray:
        mask = np.ones(self._rows, bool)

        def whole(name: str) -> IntArray:
            return self._whole[name][: self._rows]

        if wanted.task_ids:
            mask = np.zeros(self._rows, bool)
            mask[[self._row_of[task_id] for task_id in wanted.task_ids if task_id in self._row_of]] = True
        if wanted.states:
            mask &= np.isin(whole("state"), [self._states.known(state) for state in wanted.states])
        if wanted.tenant is not None:
            mask &= whole("tenant") == self._tenants.known(wanted.tenant)
        if wanted.region is not None:
            there = [number for number, places in enumerate(self._places.words) if wanted.region in places]
            mask &= np.isin(whole("places"), there)
        if wanted.held:
            mask &= whole("held") != 0
        if wanted.reason is not None:
            text = wanted.reason.lower()
            saying = [number for number, reason in enumerate(self._reasons.words) if text in reason.lower()]
            mask &= np.isin(whole("reason"), saying)
        if wanted.since is not None:
            mask &= whole("changed") >= (wanted.since - _EPOCH) // timedelta(microseconds=1)
        if wanted.name is not None:
            mask &= self._like(wanted.name)
        if wanted.array is not None:
            mask &= self._of_array(wanted.array)
        return mask

    def _like(self, pattern: str) -> BoolArray:
        written = like(pattern)
        parts = pattern.split("*")
        if len(parts) == 3 and parts[0] == parts[2] == "" and "?" not in pattern:  # a part of it, as most ask
            settled = pc.match_substring(self._settled_labels, parts[1])
        else:
            settled = pc.match_like(self._settled_labels, written)
        found = np.zeros(self._rows, bool)
        found[: self._settled] = settled.to_numpy(zero_copy_only=False)
        others = [*sorted(self._renamed), *range(self._settled, self._rows)]
        labels = pa.array([self._names[row] or self._ids[row] for row in others], pa.large_string())
        found[others] = pc.match_like(labels, written).to_numpy(zero_copy_only=False)
        return found

    def _of_array(self, array: str) -> BoolArray:
        found = np.zeros(self._rows, bool)
        found[: self._settled] = pc.starts_with(self._settled_ids, array + "[").to_numpy(zero_copy_only=False)
        found[self._settled :] = [task_id.startswith(array + "[") for task_id in self._ids[self._settled :]]
        return found

    def _first(self, rows: IntArray, order: AnyOrder, turned: bool, offset: int, limit: int) -> IntArray:
        """Choose the rows of a page: what cannot be on it is put aside before anything is sorted."""
        until = min(offset + limit, len(rows))
        if offset >= until:
            return rows[:0]
        keys, ranks = self._keys(order, rows, turned), self._ranked()
        if until < len(rows):
            last = np.partition(keys, until - 1)[until - 1]
            sure, equal = rows[keys < last], rows[keys == last]
            needed = until - len(sure)
            if needed < len(equal):
                equal = equal[np.argpartition(ranks[equal], needed - 1)[:needed]]
            rows = np.concatenate([sure, equal])
            keys = self._keys(order, rows, turned)
        return rows[np.lexsort((ranks[rows], keys))][offset:until]

    def _keys(self, order: AnyOrder, rows: IntArray, turned: bool) -> FloatArray | IntArray:
        """Give what rows are sorted by, the least first."""
        match order:
            case TaskOrder.TASK:
                ranks = self._ranked()[rows]
                return -ranks if turned else ranks
            case TaskOrder.STATE:
                place = np.argsort(np.argsort(self._states.words)) if self._states.words else np.empty(0, np.int64)
                states: IntArray = place[self._whole["state"][rows]]
                return -states if turned else states
            case TaskOrder.COST | TaskOrder.VALUE:
                usd = self._real["cost" if order is TaskOrder.COST else "value"][rows]
                return np.where(np.isnan(usd), np.inf, usd if turned else -usd)
            case "gpus":
                gpus = self._real["gpus"][rows]
                return gpus if turned else -gpus
            case _:
                column = {TaskOrder.CHANGED: "changed", TaskOrder.SUBMITTED: "submitted"}.get(order, "priority")
                values = self._whole[column][rows]
                return np.where(values == _NULL, np.iinfo(np.int64).max, values if turned else -values)

    def _shown(self, row: int) -> dict[str, Any]:
        whole = {name: int(values[row]) for name, values in self._whole.items()}
        cost, value = float(self._real["cost"][row]), float(self._real["value"][row])
        return {
            "task_id": self._ids[row],
            "name": self._names[row],
            "state": self._states.word(whole["state"]),
            "tenant": self._tenants.word(whole["tenant"]),
            "kind": self._kinds.word(whole["kind"]),
            "priority": None if whole["priority"] == _NULL else whole["priority"],
            "gpus": float(self._real["gpus"][row]),
            "regions": list(self._places.word(whole["places"]) or ()),
            "cost_usd_per_hour": None if np.isnan(cost) else cost,
            "value_usd_per_hour": None if np.isnan(value) else value,
            "reason": self._reasons.word(whole["reason"]),
            "epoch": whole["epoch"],
            "attempt": whole["attempt"],
            "held": bool(whole["held"]),
            "submitted_at": _moment(whole["submitted"]),
            "changed_at": _moment(whole["changed"]),
        }


def _moment(microseconds: int) -> datetime | None:
    return None if microseconds == _NULL else _EPOCH + timedelta(microseconds=microseconds)


def _microseconds(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    return column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())


def _by_word(numbered: tuple[int, str]) -> str:
    return numbered[1]
