"""The tables derived from the ledger, kept up to date beside the stream: `tasks`, `placements` and `plans`."""

import queue
import time
from dataclasses import asdict, dataclass
from typing import Self, TypeVar

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from jobs.beside import run_beside
from jobs.runtime import Stop
from scheduling.live_plan import Plan
from scheduling.world import World
from sync.delta_store import append, open_or_create, table_uri, with_columns
from sync.folds import FoldChanges, LedgerFold
from sync.ledger import Ledger
from sync.tables import DECISIONS, PLACEMENTS, PLANS, TASKS
from sync.upkeep import Upkeep

Item = TypeVar("Item")


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

    def __init__(self, warehouse: str, every_ms: int, compact_every_s: int, stop: Stop) -> None:
        """Open the tables.

        Args:
            warehouse: where they lie.
            every_ms: how often they are brought up to date.
            compact_every_s: how often their files and the ledger's are compacted; 0 never.
            stop: ends the thread.
        """
        self._upkeep = [Upkeep(table_uri(warehouse, table.name)) for table in (DECISIONS, TASKS, PLACEMENTS, PLANS)]
        self._compact_every_s = compact_every_s
        self._compacted = time.monotonic()
        self._tasks = open_or_create(TASKS, warehouse)
        self._placements = open_or_create(PLACEMENTS, warehouse)
        self._plans = with_columns(open_or_create(PLANS, warehouse), PLANS)
        self._every_s = every_ms / 1_000
        self._stop = stop
        self._ledger: Ledger | None = None
        self._fold = LedgerFold()
        self._rows: queue.SimpleQueue[pa.Table] = queue.SimpleQueue()
        self._new_plans: queue.SimpleQueue[PlanRecord] = queue.SimpleQueue()
        self._unwritten: list[FoldChanges] = []
        self._unwritten_plans: list[PlanRecord] = []
        self._rebuilding = True

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

    def step(self) -> None:
        """Write what came since the last step and what an earlier one could not write."""
        rows = _drain(self._rows)
        if rows or self._rebuilding:
            self._unwritten.append(self._fold.apply(pa.concat_tables(rows) if rows else DECISIONS.schema.empty_table()))
        while self._unwritten:
            self._write(self._unwritten[0])
            del self._unwritten[0]
        self._unwritten_plans += _drain(self._new_plans)
        if self._unwritten_plans:
            plans = [_fields(plan) for plan in self._unwritten_plans]
            append(self._plans, pa.Table.from_pylist(plans, schema=PLANS.schema))
            self._unwritten_plans.clear()
        if self._compact_every_s and time.monotonic() - self._compacted >= self._compact_every_s:
            self._compacted = time.monotonic()
            self._compact()

    def _compact(self) -> None:
        assert self._ledger is not None
        self._ledger.compact()
        for table in (self._tasks, self._placements, self._plans):
            table.optimize.compact()
        for upkeep in self._upkeep:
            upkeep.checkpoint()
            upkeep.sweep()

    def _write(self, changes: FoldChanges) -> None:
        """Write one piece; after a failure in its middle the whole of it may be written again."""
        if self._rebuilding:
            _overwrite(self._tasks, changes.tasks)
            _overwrite(self._placements, changes.placements)
            self._rebuilding = False
            return
        _upsert(self._tasks, changes.tasks, TASKS.key)
        _replace(self._placements, changes.placements, changes.released, PLACEMENTS.key)


def _fields(plan: PlanRecord) -> dict[str, object]:
    return {name: getattr(plan, name) for name in PlanRecord.__slots__}


def _drain(source: "queue.SimpleQueue[Item]") -> "list[Item]":
    taken: list[Item] = []
    while True:
        try:
            taken.append(source.get_nowait())
        except queue.Empty:
            return taken


def _match(key: tuple[str, ...]) -> str:
    return " AND ".join(f"target.{column} = source.{column}" for column in key)


def _overwrite(table: DeltaTable, rows: pa.Table) -> None:
    write_deltalake(table, rows, mode="overwrite")


def _upsert(table: DeltaTable, rows: pa.Table, key: tuple[str, ...]) -> None:
    if rows.num_rows:
        (
            table.merge(rows, _match(key), source_alias="source", target_alias="target")
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .execute()
        )


def _replace(table: DeltaTable, rows: pa.Table, released: pa.Table, key: tuple[str, ...]) -> None:
    """Insert or update rows and delete released keys in one commit."""
    if not rows.num_rows and not released.num_rows:
        return
    gone = pa.table(
        {
            **{field.name: pa.nulls(released.num_rows, field.type) for field in rows.schema},
            **{name: released.column(name) for name in key},
        }
    ).select(rows.column_names)
    source = pa.concat_tables(
        [
            rows.append_column("gone", pa.array([False] * rows.num_rows)),
            gone.append_column("gone", pa.array([True] * gone.num_rows)),
        ],
        promote_options="permissive",
    )
    columns = {name: f"source.{name}" for name in rows.column_names}
    (
        table.merge(source, _match(key), source_alias="source", target_alias="target")
        .when_matched_delete("source.gone")
        .when_matched_update(columns, "NOT source.gone")
        .when_not_matched_insert(columns, "NOT source.gone")
        .execute()
    )
