"""Tasks that have ended: for each id how it ended, its highest epoch and what it had asked for, in some forty bytes.

A repeated request, a late report and an inventory may name a task at any time after its end, so none is forgotten. A
million objects would cost a gigabyte and be looked at by every garbage collection; here they are columns sorted by a
digest of the id. What ended lately lies in a dictionary until there is enough of it for a run of columns; runs are
merged as they grow alike, so there are never more than a few.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.world.tasks import TaskState

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUN: Final = 65_536
"""Tasks in the dictionary before they become a run: sorting so many takes 10 ms."""
ALIKE: Final = 4
"""A run is merged with the one before it when that is less than so many times as long."""

_STATES: Final = (None, TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)
"""By the code that stands for each; 0 takes an id back, which came anew."""
_CODES: Final = {state: code for code, state in enumerate(_STATES)}


@dataclass(frozen=True, slots=True)
class EndedTask:
    """What is kept of one."""

    state: TaskState
    epoch: int
    """Highest that was used."""
    content: bytes
    """Digest of the content's hash."""

    def has_content(self, content_hash: str) -> bool:
        """Tell whether a request asks for the very same."""
        return self.content == _digest(content_hash)


class EndedColumns(NamedTuple):
    """A run: one row for each id, sorted by `id_high`; digests are two halves of 64 bits."""

    id_high: NDArray[np.uint64]
    id_low: NDArray[np.uint64]
    content_high: NDArray[np.uint64]
    content_low: NDArray[np.uint64]
    epoch: NDArray[np.int64]
    state: NDArray[np.uint8]

    def count_by_state(self) -> dict[TaskState, int]:
        """Count them."""
        counts = np.bincount(self.state, minlength=len(_STATES)).tolist()
        return {state: counts[code] for code, state in enumerate(_STATES) if state is not None}


class _Row(NamedTuple):
    content: bytes
    epoch: int
    code: int


class EndedTasks:
    """See the module's words."""

    def __init__(self) -> None:
        self._fresh: dict[bytes, _Row] = {}
        self._runs: list[EndedColumns] = []

    def take(self, columns: EndedColumns) -> None:
        """Begin with those of an image."""
        self._runs = [columns] if len(columns.state) else []

    def get(self, task_id: TaskId) -> EndedTask | None:
        """Look an id up; None where no task of that id has ended, or it lives anew."""
        key = _digest(task_id)
        row = self._fresh.get(key)
        if row is None and self._runs:
            row = self._in_runs(key)
        if row is None or (state := _STATES[row.code]) is None:
            return None
        return EndedTask(state, row.epoch, row.content)

    def add(self, task_id: TaskId, state: TaskState, epoch: int, content_hash: str) -> None:
        """Note that a task has ended."""
        self._put(task_id, _Row(_digest(content_hash), epoch, _CODES[state]))

    def spend(self, task_id: TaskId, known: EndedTask, epoch: int) -> None:
        """Note an epoch that was used after the end."""
        self._put(task_id, _Row(known.content, epoch, _CODES[known.state]))

    def forget(self, task_id: TaskId) -> None:
        """Take an id back: a task of that id lives."""
        self._put(task_id, _Row(bytes(16), 0, 0))

    def columns(self) -> EndedColumns:
        """All of them as one run, for an image."""
        runs = [*self._runs, _run_of(self._fresh)]
        whole = runs.pop()
        while runs:
            whole = _merged(runs.pop(), whole)
        lives = whole.state != 0
        return EndedColumns(*(column[lives] for column in whole))

    def _put(self, task_id: TaskId, row: _Row) -> None:
        self._fresh[_digest(task_id)] = row
        if len(self._fresh) < RUN:
            return
        self._runs.append(_run_of(self._fresh))
        self._fresh = {}
        while len(self._runs) > 1 and len(self._runs[-2].state) < ALIKE * len(self._runs[-1].state):
            newer, older = self._runs.pop(), self._runs.pop()
            self._runs.append(_merged(older, newer))

    def _in_runs(self, key: bytes) -> _Row | None:
        high, low = int.from_bytes(key[:8]), int.from_bytes(key[8:])
        wanted = np.uint64(high)
        for run in reversed(self._runs):
            at = int(run.id_high.searchsorted(wanted))
            while at < len(run.id_high) and int(run.id_high[at]) == high:
                if int(run.id_low[at]) == low:
                    content = int(run.content_high[at]).to_bytes(8) + int(run.content_low[at]).to_bytes(8)
                    return _Row(content, int(run.epoch[at]), int(run.state[at]))
                at += 1
        return None


@lru_cache(maxsize=16_384)  # a task's id is looked up some four times in the seconds of its life
def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _run_of(rows: dict[bytes, _Row]) -> EndedColumns:
    count = len(rows)
    ids = np.frombuffer(b"".join(rows), ">u8").reshape(count, 2)
    contents = np.frombuffer(b"".join(row.content for row in rows.values()), ">u8").reshape(count, 2)
    order = np.argsort(ids[:, 0], kind="stable")
    id_high, id_low, content_high, content_low = (
        np.ascontiguousarray(halves[order, half], np.uint64) for halves in (ids, contents) for half in (0, 1)
    )
    return EndedColumns(
        id_high,
        id_low,
        content_high,
        content_low,
        np.fromiter((row.epoch for row in rows.values()), np.int64, count)[order],
        np.fromiter((row.code for row in rows.values()), np.uint8, count)[order],
    )


def _merged(older: EndedColumns, newer: EndedColumns) -> EndedColumns:
    """Put two runs together; of an id in both, the newer row."""
    # Newer first, and a stable sort, which takes two sorted halves in one pass: of equal ids the newer stays in front.
    both = [np.concatenate([late, early]) for late, early in zip(newer, older, strict=True)]
    order = np.argsort(both[0], kind="stable")
    whole = EndedColumns(*(column[order] for column in both))
    same = (whole.id_high[1:] == whole.id_high[:-1]) & (whole.id_low[1:] == whole.id_low[:-1])
    first = np.concatenate([[True], ~same]) if len(whole.state) else np.zeros(0, bool)
    return EndedColumns(*(column[first] for column in whole))
