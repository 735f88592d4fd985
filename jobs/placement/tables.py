"""The tables derived from the ledger, kept up to date beside the stream: `tasks`, `placements`, `results`, `plans`."""

import logging
import queue
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from thalweg.jobs.placement.archive import ENDED, TaskArchive
from thalweg.jobs.placement.plan_record import PlanRecord
from thalweg.jobs.runtime.append_upkeep import AppendUpkeep
from thalweg.jobs.runtime.background import run_in_background
from thalweg.jobs.runtime.health import STALE_S
from thalweg.jobs.runtime.job import Stop
from thalweg.scheduling.world.lifecycle import LIVE
from thalweg.sync.clock import system_clock
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import DECISIONS, PLACEMENTS, PLANS, RESULTS, TASKS, TASKS_ARCHIVE
from thalweg.sync.delta.keyed_table import KeyedTable
from thalweg.sync.delta.store import AnotherWriterError, table_uri
from thalweg.sync.delta.upkeep import Upkeep
from thalweg.sync.ledger.fold_marks import FOLD_BATCH, FOLD_DIGEST, FOLD_DRIVER
from thalweg.sync.ledger.folds import FoldChanges, LedgerFold
from thalweg.sync.ledger.ledger import Ledger
from thalweg.sync.ledger.reading import (
    LedgerVersion,
    Position,
    in_whole_batches,
    is_after_batch,
    is_of_batch,
    position_of_last,
)
from thalweg.sync.ledger.run_outcome import RUN_ENDS
from thalweg.sync.ledger.snapshot import digest_of_batch

Item = TypeVar("Item")

log = logging.getLogger("thalweg.place_tables")


class PlaceTables:
    """Takes committed ledger rows and plans, and writes the tables on a thread of its own.

    They are derived: each of their commits says of which of the ledger's rows it is a fold, a start goes on from there,
    and where it cannot they are folded anew, so nothing here needs to survive. What could not be written (a full disk,
    an unreachable store) is kept and written at the next turn.
    """

    def __init__(
        self,
        warehouse: str,
        every_ms: int,
        compact_every_s: int,
        stop: Stop,
        rest: Callable[[], None] = lambda: None,
        archive_after_s: int = 0,
    ) -> None:
        """Open the tables.

        Args:
            warehouse: where they lie.
            every_ms: how often they are brought up to date.
            compact_every_s: how often their files and the ledger's are compacted; 0 never.
            stop: ends the thread.
            rest: called every few milliseconds of work.
            archive_after_s: how long after its end a task is moved to `tasks_archive`; 0 never.
        """
        self._archive_after_s = archive_after_s
        self._rest = rest
        self._warehouse = warehouse
        self._stop = stop
        self._open()
        names = (DECISIONS.name, TASKS.name, TASKS_ARCHIVE.name, PLACEMENTS.name, RESULTS.name)
        self._upkeep = {name: Upkeep(table_uri(warehouse, name)) for name in names}
        self._compact_every_s = compact_every_s
        self._compacted = time.monotonic()
        self._every_s = every_ms / 1_000
        self._ledger: Ledger | None = None
        self._fold = LedgerFold()
        self._begun = False
        self._rows: queue.SimpleQueue[pa.Table] = queue.SimpleQueue()
        self._new_plans: queue.SimpleQueue[PlanRecord] = queue.SimpleQueue()
        self._unwritten: list[Callable[[], None]] = []
        self._unwritten_plans: list[PlanRecord] = []

    def _open(self) -> None:
        """Open the tables to write them anew; `plans` is only added to."""
        self._tasks = KeyedTable(TASKS, self._warehouse, settled_by=ENDED)
        self._archive = TaskArchive(self._warehouse, self._tasks, self._archive_after_s)
        self._placements = KeyedTable(PLACEMENTS, self._warehouse)
        self._results = KeyedTable(RESULTS, self._warehouse, settled_by=RUN_ENDED)
        self._results_say = False  # of which rows they are a fold
        self._plans = Appender(PLANS, self._warehouse)
        self._plans_upkeep = AppendUpkeep(self._plans, system_clock, self._stop)

    def hand_over(self, rows: pa.Table) -> None:
        """Hand over rows that the ledger has, in its order."""
        self._rows.put(rows)

    def hand_over_plan(self, record: PlanRecord) -> None:
        """Hand over a plan."""
        self._new_plans.put(record)

    def look_after(self, ledger: Ledger) -> None:
        """Know the ledger: its files are compacted by the way, in `step`."""
        self._ledger = ledger

    def start(self, ledger: Ledger) -> None:
        """Start writing; the ledger's files are compacted on the way."""
        self.look_after(ledger)
        run_in_background(
            "place-tables", self.step, every_s=self._every_s, stop=self._stop, keeps=_KEPT, told_after_s=STALE_S
        )
        if self._compact_every_s:
            run_in_background("place-plans-upkeep", self.tidy_plans, every_s=self._compact_every_s, stop=self._stop)

    def tidy_plans(self) -> None:
        """Prepare the upkeep of `plans`, on a thread of its own; `step` commits it."""
        self._plans_upkeep.step()

    def step(self) -> None:
        """Write what came since the last step and what an earlier one could not write.

        Raises:
            AnotherWriterError: another driver has taken over.
        """
        try:
            self._step()
        except AnotherWriterError as error:
            # The thread of an older driver may take a last step after this one has opened the tables. They are folds of
            # the ledger, so whoever owns that writes them anew; whoever does not is the older one and leaves them.
            if self._ledger is not None and not self._ledger.is_ours():
                raise
            log.warning("%s; the tables are folded from the ledger anew", error)
            self._open()
            self._unwritten.clear()
            self._begin_anew(self._ledger_now())
            self._step()

    def _step(self) -> None:
        if not self._begun:
            self._begin()
            self._begun = True
        if rows := _drain(self._rows):
            self._fold_rows(pa.concat_tables(rows))
        while self._unwritten:
            self._unwritten[0]()
            del self._unwritten[0]
        self._unwritten_plans += _drain(self._new_plans)
        if self._unwritten_plans:
            plans = [_fields(plan) for plan in self._unwritten_plans]
            rows_of_plans = pa.Table.from_pylist(plans, schema=PLANS.schema)
            self._plans.commit(self._plans.write(rows_of_plans, system_clock()))
            self._unwritten_plans.clear()
        self._plans_upkeep.commit()
        if self._compact_every_s and time.monotonic() - self._compacted >= self._compact_every_s:
            self._compacted = time.monotonic()
            self._compact()

    def _compact(self) -> None:
        assert self._ledger is not None
        self._ledger.compact(self._pause)
        for table in (self._tasks, self._archive.table, self._placements, self._results):
            table.compact(system_clock())
        self._archive.move(system_clock())
        for table in (self._archive.table, self._results):
            table.merge_settled(system_clock(), self._pause)
        pending = {
            DECISIONS.name: self._ledger.pending,
            TASKS.name: self._tasks.pending,
            TASKS_ARCHIVE.name: self._archive.table.pending,
            PLACEMENTS.name: self._placements.pending,
            RESULTS.name: self._results.pending,
        }
        for name, upkeep in self._upkeep.items():
            upkeep.checkpoint()
            upkeep.sweep(pending[name])

    def _pause(self) -> bool:
        """Let a batch go first; tell whether to stop."""
        self._rest()
        return self._stop.asked()

    # From where the tables were left

    def _begin(self) -> None:
        """Go on from what the tables hold, where that is a fold of the ledger's rows; else fold all of it."""
        ledger = self._ledger_now()
        try:
            is_resumed = ledger is not None and self._resume(ledger)
        except (OSError, DeltaError, pa.ArrowException) as error:
            log.warning(f"the tables cannot be gone on with, and are folded from the ledger anew: {error}")
            is_resumed = False
        if not is_resumed:
            self._open()
            self._unwritten.clear()
            self._begin_anew(ledger)

    def _resume(self, ledger: LedgerVersion) -> bool:
        """Fold what the ledger has beyond the tables; False where they are of other rows, or do not say of which."""
        tasks_mark, mark, results_mark = map(_mark_in, (self._tasks, self._placements, self._results))
        if tasks_mark is None or mark is None or results_mark is None:
            return False
        at = Position(mark[FOLD_DRIVER], mark[FOLD_BATCH], 0)
        rows = ledger.rows_from(at)
        of_last = rows.filter(is_of_batch(rows, at))
        if not of_last.num_rows or _mark_of(of_last) != mark:
            log.warning("`tasks` and `placements` are of other rows than the ledger's, and are folded from it anew")
            return False
        results_to = Position(results_mark[FOLD_DRIVER], results_mark[FOLD_BATCH], _LAST_ROW)
        if results_to[:2] > at[:2] and _mark_of(rows.filter(is_of_batch(rows, results_to))) != results_mark:
            return False
        self._tasks.resume()
        self._archive.resume(system_clock())
        self._placements.resume()
        self._results.resume()
        self._results_say = True
        live = self._tasks.rows()
        if tasks_mark != mark:  # killed between the two commits: `tasks` is a step ahead
            found = self._tasks.rows_when(mark, ("state", _LIVE))
            if found is None:
                return False
            live = found
        self._fold = LedgerFold.restore(live, self._placements.rows(), position_of_last(of_last), results_to)
        if tasks_mark != mark:
            ahead = Position(tasks_mark[FOLD_DRIVER], tasks_mark[FOLD_BATCH], 0)
            known = rows.filter(pc.invert(is_after_batch(rows, ahead)))
            if _mark_of(rows.filter(is_of_batch(rows, ahead))) != tasks_mark:
                return False
            placements = self._writes(self._fold.fold(known, self._rest), tasks_mark)[-1]
            self._unwritten.append(placements)
        else:
            self._say_values(live, mark)
        for piece in in_whole_batches(rows):
            self._fold_rows(piece)
        return True

    def _say_values(self, live: pa.Table, mark: Mapping[str, int]) -> None:
        """Write the live rows of an older version once more, which do not say what a delay costs."""
        if not live.column(_VALUE).null_count:
            return
        rows = self._fold.all_live().tasks
        if rows.column(_VALUE).null_count < live.column(_VALUE).null_count:
            nothing = TASKS.schema.empty_table()
            self._unwritten.append(lambda: self._tasks.write(rows, nothing, _have_ended(rows), system_clock(), mark))

    def _begin_anew(self, ledger: LedgerVersion | None) -> None:
        """Fold the whole ledger, and replace with it what the tables hold."""
        self._fold = LedgerFold()
        parts: list[pa.Table] = []
        again: dict[str, None] = {}
        results = [RESULTS.schema.empty_table()]
        for piece in ledger.all_rows() if ledger is not None else ():
            changes = self._fold.fold(piece, self._rest)
            parts.append(changes.tasks.filter(_have_ended(changes.tasks)))
            results.append(changes.results)
            again |= dict.fromkeys(changes.begun_again["task_id"].to_pylist())
        live = self._fold.all_live()
        over = _last_lives(pa.concat_tables([TASKS.schema.empty_table(), *parts]), again, live.tasks)
        ended = self._archive.begin_anew(over, system_clock())
        changes = replace(live, tasks=pa.concat_tables([ended, live.tasks]), results=pa.concat_tables(results))
        marks: dict[str, int] = {}
        if ledger is not None and self._fold.position is not None:
            rows = ledger.rows_from(self._fold.position)
            marks = _mark_of(rows.filter(is_of_batch(rows, self._fold.position)))
        self._results_say = bool(marks)
        self._unwritten += [lambda: self._write_results(changes, marks), *self._writes(changes, marks)]

    def _ledger_now(self) -> LedgerVersion | None:
        uri = table_uri(self._warehouse, DECISIONS.name)
        return LedgerVersion(DeltaTable(uri)) if DeltaTable.is_deltatable(uri) else None

    def _fold_rows(self, rows: pa.Table) -> None:
        """Fold whole batches."""
        before = self._fold.position
        changes = self._fold.fold(rows, self._rest)
        if self._fold.position != before and self._fold.position is not None:
            mark = _mark_of(rows.filter(is_of_batch(rows, self._fold.position)))
            if changes.results.num_rows or not self._results_say:
                self._results_say = True
                self._unwritten.append(lambda: self._write_results(changes, mark))
            self._unwritten += self._writes(changes, mark)

    def _write_results(self, changes: FoldChanges, mark: Mapping[str, int]) -> None:
        """Before the other two, so that its mark tells up to where it has all: between two of them nothing ended."""
        always = pa.array([True] * changes.results.num_rows, pa.bool_())
        self._results.write(changes.results, RESULTS.schema.empty_table(), always, system_clock(), mark)

    def _writes(self, changes: FoldChanges, mark: Mapping[str, int]) -> list[Callable[[], None]]:
        """One commit to each of `tasks` and `placements`, made once: of what is settled no table looks for the key."""
        ended = _have_ended(changes.tasks)
        never = pa.array([False] * changes.placements.num_rows, pa.bool_())
        nothing, again = TASKS.schema.empty_table(), changes.begun_again
        return [
            lambda: self._archive.take_back(again, system_clock()),
            lambda: self._tasks.write(changes.tasks, nothing, ended, system_clock(), mark, again),
            lambda: self._placements.write(changes.placements, changes.released, never, system_clock(), mark),
        ]


_KEPT: Final = f"what {TASKS.name}, {PLACEMENTS.name}, {RESULTS.name} and {PLANS.name} say"
RUN_ENDED: Final = ("state", tuple(sorted(RUN_ENDS)))
"""Column and values of rows of `results`: none ever changes."""
_LAST_ROW: Final = 2**31
_VALUE: Final = "value_usd_per_hour"
_LIVE: Final = tuple(str(state) for state in LIVE)


def _have_ended(tasks: pa.Table) -> pa.ChunkedArray:
    return pc.is_in(tasks.column("state"), value_set=pa.array(ENDED[1]))


def _last_lives(ended: pa.Table, again: Collection[str], live: pa.Table) -> pa.Table:
    """Leave out earlier lives of tasks that have begun again; rows are in the order of the ledger."""
    if not again:
        return ended
    last = dict.fromkeys(live["task_id"].to_pylist(), -1)
    names = ended["task_id"].to_pylist()
    last = {name: row for row, name in enumerate(names)} | last
    return ended.take(pa.array([row for row, name in enumerate(names) if name not in again or last[name] == row]))


def _mark_of(batch: pa.Table) -> dict[str, int]:
    epoch, batch_id, _ = position_of_last(batch)
    return {FOLD_DRIVER: epoch, FOLD_BATCH: batch_id, FOLD_DIGEST: int(digest_of_batch(batch)[:15], 16)}


def _mark_in(table: KeyedTable) -> dict[str, int] | None:
    found = {name: table.transaction(name) for name in (FOLD_DRIVER, FOLD_BATCH, FOLD_DIGEST)}
    known = {name: version for name, version in found.items() if version is not None}
    return known if len(known) == len(found) else None


def _fields(plan: PlanRecord) -> dict[str, object]:
    return {name: getattr(plan, name) for name in PlanRecord.__slots__}


def _drain(source: "queue.SimpleQueue[Item]") -> "list[Item]":
    taken: list[Item] = []
    while True:
        try:
            taken.append(source.get_nowait())
        except queue.Empty:
            return taken
