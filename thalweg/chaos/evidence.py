"""Everything that was left behind, in one SQLite database: what was asked, tables, topics, agents' files, machines.

Read with SQL and JSON alone: nothing here or in `rules` asks the code that places what is right. The database is kept
beside the stack, for whoever wants to look closer.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from thalweg.agent.fleet import NodeSpec
from thalweg.agent.store import FILE_NAME
from thalweg.audit.watch import records_until_now
from thalweg.chaos.journal import read_journal
from thalweg.conf.settings import KafkaSettings
from thalweg.query.sql.query import query
from thalweg.streams.contract.topics import ASSIGNMENTS, DEADLETTER, REQUESTS, topic_name, topic_pattern
from thalweg.streams.placement.fence import open_to_read

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS asked (task_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS graphed (task_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS cancels (key TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS releases (key TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS nonsense (key TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS written (key TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS heard (event_id TEXT, type TEXT, task_id TEXT, epoch INTEGER, region TEXT,
    PRIMARY KEY (event_id, region));
CREATE TABLE IF NOT EXISTS nodes (region TEXT, node_id TEXT, gpus INTEGER, cpus REAL, memory_gb REAL,
    PRIMARY KEY (region, node_id));
CREATE TABLE IF NOT EXISTS refused (key TEXT, op TEXT);
CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS ledger (position INTEGER PRIMARY KEY, task_id TEXT, copy INTEGER, epoch INTEGER,
    transition TEXT, region TEXT, event_id TEXT, request TEXT, reason TEXT, cause TEXT, exit_code INTEGER);
CREATE TABLE IF NOT EXISTS tabled (number INTEGER PRIMARY KEY, task_id TEXT, state TEXT);
CREATE TABLE IF NOT EXISTS shares (position INTEGER, node_id TEXT, workers INTEGER);
CREATE TABLE IF NOT EXISTS seats (position INTEGER, node_id TEXT, device INTEGER, milli INTEGER);
CREATE TABLE IF NOT EXISTS runs (file TEXT, region TEXT, task_id TEXT, epoch INTEGER, started_ms INTEGER, outcome TEXT);
CREATE TABLE IF NOT EXISTS held (region TEXT, task_id TEXT, epoch INTEGER, state TEXT);
CREATE TABLE IF NOT EXISTS machines (number INTEGER PRIMARY KEY, life TEXT, at_ns INTEGER, what TEXT, region TEXT,
    task_id TEXT, epoch INTEGER);
CREATE TABLE IF NOT EXISTS machine_seats (number INTEGER, node_id TEXT, device INTEGER, milli INTEGER);
CREATE INDEX IF NOT EXISTS ledger_by_task ON ledger (task_id, epoch);
CREATE INDEX IF NOT EXISTS tabled_by_task ON tabled (task_id);
CREATE INDEX IF NOT EXISTS machines_by_task ON machines (task_id);
CREATE INDEX IF NOT EXISTS shares_by_position ON shares (position);
CREATE INDEX IF NOT EXISTS seats_by_position ON seats (position);
CREATE INDEX IF NOT EXISTS machine_seats_by_number ON machine_seats (number);
"""

ANEW: Final = ("refused", "records", "ledger", "tabled", "shares", "seats", "runs", "held", "machines", "machine_seats")
"""Read whole each time; the other tables grow while the chaos goes on."""

WHOLE_MILLI: Final = 1_000
"""Of one GPU. Said here once more: an audit that asked the agent would believe what it is to check."""


class Evidence:
    """The database."""

    def __init__(self, path: Path | None) -> None:
        """Make it anew; None keeps it in memory."""
        if path is not None:
            path.unlink(missing_ok=True)
        self.db = sqlite3.connect(":memory:" if path is None else path, isolation_level=None)
        self.db.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY;" + SCHEMA)

    def add(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add rows; those that are there already are left as they are."""
        told = list(rows)
        if told:
            self.db.execute("BEGIN")
            self.db.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(told[0]))})", told)
            self.db.execute("COMMIT")

    def forget(self) -> None:
        """Empty the tables that are read whole."""
        for table in ANEW:
            self.db.execute(f"DELETE FROM {table}")

    def count(self, sql: str) -> int:
        """Ask for one number."""
        return int(self.db.execute(sql).fetchone()[0])

    # What is read

    def read_fleet(self, nodes: Mapping[tuple[str, str], NodeSpec]) -> None:
        """Take the machines, by region and id, as they were made."""
        self.add("nodes", ((*key, node.gpus, node.cpus, node.memory_gb) for key, node in nodes.items()))

    def read_topics(self, kafka: KafkaSettings) -> None:
        """Read every assignment, and every refusal of a request."""
        prefix = kafka.topic_prefix
        told = (
            json.loads(record.value or b"{}")
            for record in records_until_now(kafka, pattern=topic_pattern(ASSIGNMENTS, prefix))
        )
        names = ("event_id", "type", "task_id", "epoch", "region")
        self.add("heard", [tuple(event.get(name) for name in names) for event in told])
        requests = topic_name(REQUESTS, prefix).encode()
        self.add(
            "refused",
            [
                ((record.key or b"").decode(errors="replace"), _op(record.value or b""))
                for record in records_until_now(kafka, topics=[topic_name(DEADLETTER, prefix)])
                if dict(record.headers).get("topic") == requests
            ],
        )

    def read_tables(self, warehouse: str) -> None:
        """Read the ledger in its order, what the tables of tasks say, and the keys of the replicated records."""
        facts = "task_id, copy, epoch, transition, region, event_id, request, reason, cause"
        rows = query(
            f"SELECT {facts.replace('copy', chr(34) + 'copy' + chr(34))}, outcome, nodes FROM decisions "
            "ORDER BY driver_epoch, batch_id, row",
            warehouse,
        ).dicts()
        names = facts.split(", ")
        self.add(
            "ledger",
            ((at, *(row[name] for name in names), _exit_code(row["outcome"])) for at, row in enumerate(rows)),
        )
        given = [(at, share) for at, row in enumerate(rows) for share in row["nodes"] or ()]
        self.add("shares", ((at, share["node_id"], share["workers"]) for at, share in given))
        self.add(
            "seats",
            (
                (at, share["node_id"], device, _milli(share["gpu_milli"], len(share["devices"])))
                for at, share in given
                for device in share["devices"] or ()
            ),
        )
        told = query("SELECT task_id, state FROM tasks UNION ALL SELECT task_id, state FROM tasks_archive", warehouse)
        self.add("tabled", ((at, row["task_id"], row["state"]) for at, row in enumerate(told.dicts())))
        self.add("records", ((row["key"],) for row in query("SELECT DISTINCT key FROM records", warehouse).dicts()))

    def read_agents(self, now: Iterable[Path], earlier: Iterable[Path] = ()) -> None:
        """Read the agents' files.

        Args:
            now: folders of agents, whose files say what is held.
            earlier: folders of files that were set aside, which only say what ran.
        """
        held_in = {folder / FILE_NAME for folder in now}
        for file in sorted(held_in | {folder / FILE_NAME for folder in earlier}):
            if not file.exists():
                continue
            with closing(open_to_read(file)) as store:
                asked = "SELECT region, task_id, epoch, started_ms, outcome FROM agent_runs"
                self.add("runs", ((str(file), *row) for row in store.execute(asked)))
                if file in held_in:
                    self.add("held", store.execute("SELECT region, task_id, epoch, state FROM agent_held"))

    def read_machines(self, journals: Path) -> None:
        """Read what the machines saw, life by life."""
        lines = [(str(file), line) for file in sorted(journals.glob("*/*.jsonl")) for line in read_journal(file)]
        self.add(
            "machines",
            (
                (number, life, line.at_ns, line.what, line.region, line.task_id, line.epoch)
                for number, (life, line) in enumerate(lines)
            ),
        )
        self.add(
            "machine_seats",
            (
                (number, seat.node_id, seat.device, seat.milli)
                for number, (_, line) in enumerate(lines)
                for seat in line.seats
            ),
        )


def _op(request: bytes) -> str:
    """Say what a request asked for; nothing where it is none."""
    try:
        return str(json.loads(request).get("op", "submit"))
    except (ValueError, AttributeError):
        return ""


def _exit_code(outcome: str | None) -> int | None:
    """Read what a run left for its exit code."""
    code = json.loads(outcome or "{}").get("exit_code")
    return code if isinstance(code, int) else None


def _milli(shared: int | None, devices: int) -> int:
    return (shared or 0) // devices if shared else WHOLE_MILLI
