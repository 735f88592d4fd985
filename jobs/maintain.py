"""Keep every table's files and log small, and look at what was stored: no stream, no JVM, safe beside all jobs.

Checkpoints, expired log entries and unused files need no commit, so they are done here for every table, whoever writes
it. What changes a table (compaction, retention) belongs to the table's one writer, which does it between its batches.
`audit` is this job's own table and says what was done.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from thalweg.conf.environment import TELEMETRY_RULES
from thalweg.conf.settings import Settings
from thalweg.jobs.runtime.append_upkeep import AppendUpkeep
from thalweg.jobs.runtime.job import Flow, Stop, job_main
from thalweg.streams.telemetry.parse import PARSED
from thalweg.streams.telemetry.rules import Rule, load_rules
from thalweg.sync.clock import Clock, system_clock
from thalweg.sync.delta import contracts as tables
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.compaction import files_of
from thalweg.sync.delta.contracts import TableContract
from thalweg.sync.delta.data_files import folder_of
from thalweg.sync.delta.store import table_uri
from thalweg.sync.delta.upkeep import Upkeep

log = logging.getLogger("thalweg.maintain")

FLOW: Final = Flow(
    name="maintain",
    reads_tables=tuple(contract.name for contract in tables.CONTRACTS if contract is not tables.AUDIT),
    writes_tables=(tables.AUDIT.name,),
)
EVERY_S: Final = 300.0
"""Between two rounds: unused files are kept for ten minutes and longer, so a round finds a few hundred at most."""
SAMPLE_ROWS: Final = 20_000
"""Rows of telemetry that a round looks at: a third of a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was done with one table, or why it could not be."""

    table: str
    checkpoint_version: int | None = None
    removed_files: int = 0
    error: str | None = None


def maintain(warehouse: str, contracts: Sequence[TableContract] = tables.CONTRACTS) -> list[Done]:
    """Look after the tables that exist; one that fails does not keep the others waiting."""
    done = []
    for contract in contracts:
        uri = table_uri(warehouse, contract.name)
        if not DeltaTable.is_deltatable(uri):
            continue
        upkeep = Upkeep(uri)
        try:
            version, removed = upkeep.checkpoint(), upkeep.sweep()
            done.append(Done(table=contract.name, checkpoint_version=version, removed_files=removed))
        except (OSError, DeltaError) as error:
            log.error("table %s could not be looked after: %s", contract.name, error)
            done.append(Done(table=contract.name, error=str(error)))
    return done


def stored_rows_that_break_rules(warehouse: str, rules: Sequence[Rule]) -> dict[str, int]:
    """Check a sample of the newest telemetry with Great Expectations; by rule, how many rows break it.

    The stream judges every row before it is stored, so anything found here is a fault of ours.
    """
    from thalweg.streams.telemetry.rule_expectations import broken_rows  # imported late: the library takes two seconds

    uri = table_uri(warehouse, tables.TELEMETRY.name)
    if not DeltaTable.is_deltatable(uri):
        return {}
    files = files_of(DeltaTable(uri))
    if not files:
        return {}
    filesystem, folder = folder_of(uri)
    newest = pq.read_table(f"{folder}/{files[-1].path}", filesystem=filesystem, partitioning=None)
    rows = newest.slice(0, SAMPLE_ROWS)
    rows = rows.append_column("observed_ms", _ms(rows["observed_at"]))
    stored = [rule for rule in rules if rule.field in rows.column_names]
    return {name: len(found) for name, found in broken_rows(stored, rows.to_pandas()).items()}


def _ms(moments: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.divide(moments.cast(pa.int64()), 1000)


class Audit:
    """The `audit` table, of which this job is the writer and so does everything."""

    def __init__(self, warehouse: str, clock: Clock, stop: Stop | None = None) -> None:
        """Open it; `stop` ends its tidying in the middle."""
        self._appender = Appender(tables.AUDIT, warehouse)
        self._clock = clock
        self._upkeep = AppendUpkeep(self._appender, clock, stop or Stop())

    def record(self, action: str, subject: str, outcome: str, detail: object) -> None:
        """Write one row."""
        now_ms = self._clock()
        row = {
            "at": now_ms * 1000,
            "actor": FLOW.name,
            "action": action,
            "subject": subject,
            "outcome": outcome,
            "detail": json.dumps(detail),
        }
        rows = pa.Table.from_pylist([row], schema=tables.AUDIT.schema)
        self._appender.commit(self._appender.write(rows, now_ms))

    def tidy(self) -> None:
        """Compact the table, and drop what is older than its retention."""
        self._upkeep.step()
        self._upkeep.commit()


def one_round(settings: Settings, audit: Audit) -> list[Done]:
    """Look after every table once, and write down what mattered."""
    warehouse = settings.warehouse.path
    done = maintain(warehouse)
    for one in done:
        if one.removed_files or one.error:
            audit.record("sweep", one.table, "failed" if one.error else "done", one.error or one.removed_files)
    rules = load_rules(TELEMETRY_RULES, PARSED.names, {"future_limit_ms": settings.observe.future_limit_ms})
    if broken := stored_rows_that_break_rules(warehouse, rules):
        log.error("stored telemetry breaks rules that it passed: %s", broken)
        audit.record("check", tables.TELEMETRY.name, "broken", broken)
    audit.tidy()
    return done


def run(settings: Settings) -> None:
    """Look after the tables until asked to stop."""
    stop = Stop().on_signals()
    audit = Audit(settings.warehouse.path, system_clock, stop)
    while True:
        done = one_round(settings, audit)
        log.info("tables looked after", extra={"fields": {"tables": len(done)}})
        if stop.wait(EVERY_S):
            return


if __name__ == "__main__":
    job_main(run, __doc__ or "")
