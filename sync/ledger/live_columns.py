"""The live tasks of `tasks` and `placements` as columns, in the order of the short story, and the story of any of them.

Telling the short story of thirty thousand tasks takes seconds, and most of them only sit or wait. Here each of these
stays a row; what is said of the others is said by `short_story`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from thalweg.scheduling.arrays import BoolArray, FloatArray, IntArray
from thalweg.scheduling.world.crowd import NOWHERE, SEVERAL, Crowd, SeatColumns, TaskColumns, may_sit, may_wait
from thalweg.scheduling.world.occupancy import MICRO
from thalweg.scheduling.world.tasks import TaskSpec, Transition
from thalweg.sync.ledger.short_story import in_order_of_story, is_in_order_of_story, short_story

if TYPE_CHECKING:
    from thalweg.sync.ledger.ledger import SpecOf  # the writer, which readers do without

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class LiveColumns:
    """See the module's words."""

    def __init__(
        self,
        tasks: pa.Table,
        placements: pa.Table,
        read_many: Callable[[Sequence[str]], tuple[list[TaskSpec], IntArray]],
        read_spec: "SpecOf",
        most_waiting: int,
        also: Collection[str],
        unheard_of: Set[str] = frozenset(),
    ) -> None:
        """Take in what was read.

        Args:
            tasks: live rows of `tasks` (`live_rows.LIVE_TASKS`), by submission, then the shorter id.
            placements: all rows of `placements` (`live_rows.PLACEMENTS`).
            read_many: reads stored requests; the specs that differ, and which each has.
            read_spec: reads one.
            most_waiting: of those that hold nothing so many are taken in, the most urgent.
            also: tasks that are taken in whatever they are, and told in full.
            unheard_of: parents of theirs that nobody has submitted yet.
        """
        self._read_spec = read_spec
        self._placements = placements
        self._unheard_of = unheard_of
        self._seats_of = _Seats(placements)
        rows = self._chosen(tasks, most_waiting, also)
        requests = _picked(tasks, "request", rows)
        specs, spec = read_many(requests)
        ids = _picked(tasks, "task_id", rows)
        if any(one.terms.after or one.terms.array is not None for one in specs):
            order = _waited_for_first(ids, [specs[number] for number in spec.tolist()])
            rows, spec = rows[order], spec[order]
            requests, ids = ([column[row] for row in order.tolist()] for column in (requests, ids))
        self._tasks, self._rows = tasks, rows
        self.crowd = Crowd.of(
            TaskColumns(
                ids=ids,
                requests=requests,
                reasons=_picked(tasks, "reason", rows),
                epoch=_numbers(tasks, "epoch")[rows],
                attempt=_numbers(tasks, "attempt")[rows],
                submitted_ms=_ms(_numbers(tasks, "submitted_us")[rows]),
                specs=specs,
                spec=spec,
            ),
            _seats(placements),
            self._seats_of.only(ids),
        )
        self.plain = self._plain(also)

    def story_of(self, row: int) -> Iterator[Transition]:
        """Tell the story of one task."""
        task = self._tasks.slice(int(self._rows[row]), 1).to_pylist()[0]
        task["submitted_at"] = _moment(task["submitted_us"])
        copies = [self._placements.slice(seat, 1).to_pylist()[0] for seat in self._seats_of.all(task["task_id"])]
        for copy in copies:
            copy["assigned_at"], copy["changed_at"] = _moment(copy["assigned_us"]), _moment(copy["changed_us"])
        return short_story([task], copies, self._read_spec, self._awaited)

    @cached_property
    def _awaited(self) -> Set[str]:
        """Whom a task can wait for: who lives, taken in or not, and who is still to come."""
        return {*self._tasks["task_id"].to_pylist()} | self._unheard_of

    def _chosen(self, tasks: pa.Table, most_waiting: int, also: Collection[str]) -> IntArray:
        """Rows of those that hold something, of some others by name, and of the most urgent of what waits."""
        names = tasks["task_id"].to_pylist()
        taken = np.array([name in self._seats_of or name in also for name in names], bool)
        waiting = np.flatnonzero(_numbers(tasks, "waits"))
        # The rows are by submission already.
        urgency = _numbers(tasks, "urgency")[waiting]
        taken[waiting[np.argsort(-urgency, kind="stable")[:most_waiting]]] = True
        return np.flatnonzero(taken)

    def _plain(self, also: Collection[str]) -> BoolArray:
        """By task, whether it sits or waits and nothing more is to be said of it."""
        tasks, seats, seat = self.crowd.tasks, self.crowd.seats, self.crowd.seat
        waits, is_held = (_numbers(self._tasks, name)[self._rows] != 0 for name in ("waits", "is_held"))
        may_be_plain = ~is_held & ~np.array([name in also for name in tasks.ids], bool)
        held = {tasks.ids[row] for row in np.flatnonzero(is_held).tolist()}
        of_array = np.array([one.terms.array is not None for one in tasks.specs], bool)[tasks.spec]
        for row in np.flatnonzero(of_array).tolist():
            array = tasks.specs[tasks.spec[row]].terms.array
            # An array stands for its elements, and holds them where it is held.
            may_be_plain[row] &= array is not None and array.array_id != tasks.ids[row] and array.array_id not in held
        by_spec = np.array([(may_sit(one), may_wait(one)) for one in tasks.specs], bool).reshape(-1, 2)[tasks.spec]
        first = (_numbers(self._placements, "is_placed") != 0) & (_numbers(self._placements, "copy") == 0)
        sits = np.zeros(len(seat), bool)
        here = np.flatnonzero(seat >= 0)
        sits[here] = first[seat[here]] & (seats.epoch[seat[here]] >= 0) & (seats.epoch[seat[here]] <= tasks.epoch[here])
        plain: BoolArray = may_be_plain & (
            (sits & ~waits & by_spec[:, 0]) | ((seat == NOWHERE) & waits & by_spec[:, 1])
        )
        return plain


class _Seats:
    """Rows of `placements` by task."""

    def __init__(self, placements: pa.Table) -> None:
        names, copies = placements["task_id"].to_pylist(), placements["copy"].to_pylist()
        self._one = dict(zip(names, range(len(names)), strict=True))
        self._several: dict[str, list[int]] = {}
        if len(self._one) < len(names):
            for row, name in enumerate(names):
                self._several.setdefault(name, []).append(row)
            self._several = {
                name: sorted(rows, key=copies.__getitem__) for name, rows in self._several.items() if len(rows) > 1
            }

    def __contains__(self, name: object) -> bool:
        return name in self._one

    def all(self, name: str) -> list[int]:
        """Rows of a task's copies, by their number."""
        return self._several.get(name) or ([self._one[name]] if name in self._one else [])

    def only(self, names: Iterable[str]) -> IntArray:
        """Row of each task's only copy, NOWHERE where it has none, SEVERAL where it has more."""
        one = self._one if not self._several else self._one | dict.fromkeys(self._several, SEVERAL)
        return np.array([one.get(name, NOWHERE) for name in names], np.int64)


def _waited_for_first(task_ids: Sequence[str], specs: Sequence[TaskSpec]) -> IntArray:
    """Order of the rows in which who is waited for comes before those who wait."""
    if is_in_order_of_story(task_ids, specs):
        return np.arange(len(task_ids))
    told = [{"task_id": name, "row": row} for row, name in enumerate(task_ids)]
    in_order = in_order_of_story(told, dict(zip(task_ids, specs, strict=True)))
    return np.array([one["row"] for one in in_order], np.int64)


def _picked(table: pa.Table, name: str, rows: IntArray) -> list[Any]:
    values = table[name].to_pylist()
    return values if len(rows) == len(values) and _rising(rows) else [values[row] for row in rows.tolist()]


def _rising(rows: IntArray) -> bool:
    return bool((rows[1:] > rows[:-1]).all())


def _seats(placements: pa.Table) -> SeatColumns:
    shares = _whole(placements["nodes"])
    devices = _whole_lists(shares.values.field("devices"))
    return SeatColumns(
        region=placements["region"].to_pylist(),
        pool_id=placements["pool_id"].to_pylist(),
        state=placements["state"].to_pylist(),
        epoch=_numbers(placements, "epoch"),
        assigned_ms=_ms(_numbers(placements, "assigned_us")),
        changed_ms=_ms(_numbers(placements, "changed_us")),
        micro_usd_per_hour=np.rint(_reals(placements, "cost_usd_per_hour") * MICRO).astype(np.int64),
        first_share=_starts(shares),
        node_id=shares.values.field("node_id").to_pylist(),
        workers=_integers(shares.values.field("workers")),
        gpus=_integers(shares.values.field("gpus")),
        gpu_milli=_integers(shares.values.field("gpu_milli")),
        first_device=_starts(devices),
        device=_integers(devices.values),
    )


# No fill_null, take or cast here, and no to_numpy: each imports pyarrow.compute or pandas, which takes longer than to
# read the tables. What is asked of Arrow is where the values lie.


def _whole(column: pa.ChunkedArray) -> pa.ListArray:
    """One array of a column of lists."""
    return _whole_lists(pa.concat_arrays(column.chunks) if column.num_chunks else column.combine_chunks())


def _whole_lists(lists: pa.ListArray) -> pa.ListArray:
    """Lists of which none is null and the first begins at 0: then their offsets are all there is to know."""
    starts = _fixed(lists.offsets) if len(lists) else np.zeros(1, np.int64)
    if lists.null_count or starts[0]:
        return pa.array([value or [] for value in lists.to_pylist()], lists.type)
    return lists


def _starts(lists: pa.ListArray) -> IntArray:
    """Where each list begins among the values of all; the end is the last."""
    return _fixed(lists.offsets) if len(lists) else np.zeros(1, np.int64)


def _integers(column: pa.Array) -> IntArray:
    if column.null_count:
        return np.array([value or 0 for value in column.to_pylist()], np.int64)
    return _fixed(column)


def _numbers(table: pa.Table, name: str) -> IntArray:
    return np.concatenate([np.zeros(0, np.int64), *(_integers(chunk) for chunk in table[name].chunks)])


def _reals(table: pa.Table, name: str) -> FloatArray:
    """Of a column without nulls."""
    chunks = (np.frombuffer(chunk.buffers()[1], np.float64)[_span(chunk)] for chunk in table[name].chunks if len(chunk))
    return np.concatenate([np.zeros(0), *chunks])


def _fixed(column: pa.Array) -> IntArray:
    """Integers of whatever width, without nulls."""
    if not len(column):
        return np.zeros(0, np.int64)
    width = np.dtype(f"i{column.type.bit_width // 8}")
    return np.frombuffer(column.buffers()[1], width)[_span(column)].astype(np.int64)


def _span(column: pa.Array) -> slice:
    return slice(column.offset, column.offset + len(column))


def _ms(microseconds: IntArray) -> IntArray:
    """Milliseconds, rounded as the story rounds them."""
    return np.asarray(np.rint(microseconds / 1_000_000 * 1_000), np.int64)


def _moment(microseconds: int | None) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds or 0)
