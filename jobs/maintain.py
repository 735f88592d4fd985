"""Keep every table's files and log small, and look at what was stored: no stream, no JVM, safe beside all jobs.

Checkpoints, expired log entries and unused files need no commit, so they are done here for every table, whoever writes
it. What changes a table (compaction, retention) belongs to the table's one writer, which does it between its batches.
`audit` is this job's own table, of what was done and what operators ordered; `account` is the other, what tasks have
cost.
"""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from deltalake import DeltaTable, Transaction
from deltalake.exceptions import DeltaError

from thalweg.conf.readiness import announce_ready, announce_trouble, keep_pulse
from thalweg.conf.settings import Settings
from thalweg.conf.words import cut_short
from thalweg.jobs.accounting.account import AccountKeeper
from thalweg.jobs.accounting.order_audit import OrderAudit
from thalweg.jobs.runtime.append_upkeep import AppendUpkeep
from thalweg.jobs.runtime.job import Flow, Stop, job_main
from thalweg.streams.telemetry.rules import site_rules
from thalweg.sync.clock import Clock, system_clock
from thalweg.sync.delta import contracts as tables
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import TableContract
from thalweg.sync.delta.store import table_uri
from thalweg.sync.delta.upkeep import Upkeep

log = logging.getLogger("thalweg.maintain")

FLOW: Final = Flow(
    name="maintain",
    reads_tables=tuple(c.name for c in tables.CONTRACTS if c not in (tables.AUDIT, tables.ACCOUNT)),
    writes_tables=(tables.AUDIT.name, tables.ACCOUNT.name),
)
FIRST_AFTER_S: Final = 60.0
"""Before the first round: the first minute of a stack belongs to its queries."""
NICENESS: Final = 10
"""Nobody waits for it; on two cores the queries come first."""
ACCOUNT_EVERY_S: Final = 10.0
"""Between two looks at what the ledger has: what somebody asks is answered to within it."""
EVERY_S: Final = 300.0
"""Between two rounds: unused files are kept for ten minutes and longer, so a round finds a few hundred at most."""


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

    def append(self, rows: Sequence[dict[str, Any]], marks: Sequence[Transaction]) -> None:
        """Write rows that others have made, with what says up to where they go."""
        table = pa.Table.from_pylist(list(rows), schema=tables.AUDIT.schema)
        self._appender.commit(self._appender.write(table, self._clock()), *marks)

    def mark(self, name: str) -> int | None:
        """Read what was recorded last under an application id."""
        found = DeltaTable(self._appender.uri).transaction_version(name)
        return None if found is None else int(found)

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
    if broken := _broken_rules(settings):
        log.error("stored telemetry breaks rules that it passed: %s", broken)
        audit.record("check", tables.TELEMETRY.name, "broken", broken)
    audit.tidy()
    return done


def _broken_rules(settings: Settings) -> dict[str, int]:
    """By broken rule, how many of the newest rows break it; whatever is found, the stream let through."""
    from thalweg.streams.telemetry.stored_quality import stored_quality  # imported late: it takes two seconds

    return dict(stored_quality(settings.warehouse.path, site_rules(settings.observe)).broken)


def run(settings: Settings) -> None:
    """Look after the tables, and keep the account, until asked to stop."""
    os.nice(NICENESS)
    stop = Stop().on_signals()
    audit = Audit(settings.warehouse.path, system_clock, stop)
    orders = OrderAudit(audit.append, audit.mark)
    account = AccountKeeper(settings.warehouse.path, system_clock, stop, told=orders.note)
    keep_pulse()
    announce_ready()
    looks_left = int(FIRST_AFTER_S / ACCOUNT_EVERY_S)
    while not stop.wait(ACCOUNT_EVERY_S):
        looks_left -= 1
        trouble = _account_in_words(account)
        if looks_left <= 0:
            trouble = "; ".join(filter(None, (trouble, _round_in_words(settings, audit))))
            account.tidy()
            looks_left = int(EVERY_S / ACCOUNT_EVERY_S)
        if trouble or looks_left == int(EVERY_S / ACCOUNT_EVERY_S):
            say(trouble)


def _account_in_words(account: AccountKeeper) -> str:
    """Bring the account up to date, and say what was wrong; the next look makes up for it."""
    try:
        account.step()
    except Exception as error:
        log.exception("the account could not be brought up to date")
        return f"the account could not be brought up to date: {type(error).__name__}: {cut_short(str(error))}"
    return ""


def say(trouble: str) -> None:
    """Tell the supervisor how the last round was."""
    if trouble:
        announce_trouble(trouble)
    else:
        announce_ready()


def _round_in_words(settings: Settings, audit: Audit) -> str:
    """Do a round, and say what was wrong with it; whatever it was, the tables' writers go on and so does this."""
    try:
        done = one_round(settings, audit)
    except Exception as error:
        log.exception("a round failed")
        return f"a round failed: {type(error).__name__}: {cut_short(str(error))}"
    log.info("tables looked after", extra={"fields": {"tables": len(done)}})
    return "; ".join(f"{one.table} could not be looked after: {cut_short(one.error)}" for one in done if one.error)


if __name__ == "__main__":
    job_main(run, __doc__ or "")
