"""The tables derived from the ledger, kept up to date beside the stream: `tasks`, `placements` and `plans`."""

import logging
import queue
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final, Self, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from thalweg.jobs.runtime.append_upkeep import AppendUpkeep
from thalweg.jobs.runtime.beside import run_beside
from thalweg.jobs.runtime.job import Stop
from thalweg.scheduling.live.live_plan import Plan
from thalweg.scheduling.world.tasks import TERMINAL
from thalweg.scheduling.world.world import World
from thalweg.sync.clock import system_clock
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import DECISIONS, PLACEMENTS, PLANS, TASKS
from thalweg.sync.delta.keyed_table import KeyedTable
from thalweg.sync.delta.store import AnotherWriterError, table_uri
from thalweg.sync.delta.upkeep import Upkeep
from thalweg.sync.ledger.folds import FoldChanges, LedgerFold
from thalweg.sync.ledger.ledger import Ledger, rows_of_ledger

Item = TypeVar("Item")

log = logging.getLogger("thalweg.place_tables")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """One row of `plans`; fields are its columns, `planned_at` in microseconds."""

    plan_id: str
    query_id: str
    batch_id: int
    planned_at: int
    strategy: str
    status: str
    objective_usd: float
    bound_usd: float
    gap: float
    considered: int
    placed: int
    revoked: int
    waiting: int
    read_ms: float
    plan_ms: float
    commit_ms: float
    publish_ms: float
    pool_prices: list[dict[str, object]]

    @classmethod
    def of(
        cls,
        made: Plan,
        plan_id: str,
        query_id: str,
        batch_id: int,
        now_ms: int,
        world: World,
        steps: dict[str, float],
    ) -> Self:
        """Describe a plan; `steps` are the seconds of each step."""
        return cls(
            plan_id=plan_id,
            query_id=query_id,
            batch_id=batch_id,
            planned_at=now_ms * 1_000,
            strategy=made.strategy,
            status=made.status,
            objective_usd=made.objective,
            bound_usd=made.bound,
            gap=made.gap,
            considered=made.considered,
            placed=len(made.assignments),
            revoked=len(made.preempted),
            waiting=len(world.waiting),
            pool_prices=[asdict(price) for price in made.pool_prices],
            **{f"{step}_ms": seconds * 1_000 for step, seconds in steps.items()},
        )


class PlaceTables:
    """Takes committed ledger rows and plans, and writes the three tables on a thread of its own.

    They are derived: at start they are rebuilt from the ledger's rows, so nothing here needs to survive. What could not
    be written (a full disk, an unreachable store) is kept and written at the next turn.
    """

    def __init__(
        self,
        warehouse: str,
        every_ms: int,
        compact_every_s: int,
        stop: Stop,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the tables.

        Args:
            warehouse: where they lie.
            every_ms: how often they are brought up to date.
            compact_every_s: how often their files and the ledger's are compacted; 0 never.
            stop: ends the thread.
            rest: called every few milliseconds of work.
        """
        self._rest = rest
        self._warehouse = warehouse
        self._stop = stop
        self._open()
        names = (DECISIONS.name, TASKS.name, PLACEMENTS.name)
        self._upkeep = {name: Upkeep(table_uri(warehouse, name)) for name in names}
        self._compact_every_s = compact_every_s
        self._compacted = time.monotonic()
        self._every_s = every_ms / 1_000
        self._ledger: Ledger | None = None
        self._fold = LedgerFold()
        self._rows: queue.SimpleQueue[pa.Table] = queue.SimpleQueue()
        self._new_plans: queue.SimpleQueue[PlanRecord] = queue.SimpleQueue()
        self._unwritten: list[Callable[[], None]] = []
        self._unwritten_plans: list[PlanRecord] = []
        self._rebuilding = True

    def _open(self) -> None:
        """Open the tables to write them anew; `plans` is only added to."""
        self._tasks = KeyedTable(TASKS, self._warehouse)
        self._placements = KeyedTable(PLACEMENTS, self._warehouse)
        self._plans = Appender(PLANS, self._warehouse)
        self._plans_upkeep = AppendUpkeep(self._plans, system_clock, self._stop)

    def put(self, rows: pa.Table) -> None:
        """Hand over rows that the ledger has, in its order."""
        self._rows.put(rows)

    def put_plan(self, record: PlanRecord) -> None:
        """Hand over a plan."""
        self._new_plans.put(record)

    def start(self, ledger: Ledger) -> None:
        """Start writing; the ledger's files are compacted on the way."""
        self._ledger = ledger
        run_beside("place-tables", self.step, every_s=self._every_s, stop=self._stop)
        if self._compact_every_s:
            run_beside("place-plans-upkeep", self._tidy_plans, every_s=self._compact_every_s, stop=self._stop)

    def _tidy_plans(self) -> None:
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
            self._fold = LedgerFold()
            self._unwritten.clear()
            rows = list(rows_of_ledger(table_uri(self._warehouse, DECISIONS.name)))
            self._unwritten += self._writes(
                self._fold.fold(pa.concat_tables([DECISIONS.schema.empty_table(), *rows]), self._rest)
            )
            self._step()

    def _step(self) -> None:
        rows = _drain(self._rows)
        if rows or self._rebuilding:
            news = pa.concat_tables(rows) if rows else DECISIONS.schema.empty_table()
            self._unwritten += self._writes(self._fold.fold(news, self._rest))
            self._rebuilding = False
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
        self._ledger.compact()
        for table in (self._tasks, self._placements):
            table.compact(system_clock())
        pending = {
            DECISIONS.name: self._ledger.pending,
            TASKS.name: self._tasks.pending,
            PLACEMENTS.name: self._placements.pending,
        }
        for name, upkeep in self._upkeep.items():
            upkeep.checkpoint()
            upkeep.sweep(pending[name])

    def _writes(self, changes: FoldChanges) -> list[Callable[[], None]]:
        """One commit to each table. Each is made once: a table takes what is settled without looking for its key."""
        ended = pc.is_in(changes.tasks["state"], value_set=_ENDED)
        never = pa.array([False] * changes.placements.num_rows, pa.bool_())
        nothing = TASKS.schema.empty_table()
        return [
            lambda: self._tasks.write(changes.tasks, nothing, ended, system_clock()),
            lambda: self._placements.write(changes.placements, changes.released, never, system_clock()),
        ]


_ENDED: Final = pa.array([str(state) for state in TERMINAL])


def _fields(plan: PlanRecord) -> dict[str, object]:
    return {name: getattr(plan, name) for name in PlanRecord.__slots__}


def _drain(source: "queue.SimpleQueue[Item]") -> "list[Item]":
    taken: list[Item] = []
    while True:
        try:
            taken.append(source.get_nowait())
        except queue.Empty:
            return taken
