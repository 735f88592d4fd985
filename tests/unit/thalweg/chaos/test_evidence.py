"""What is left behind is read as it is written by those who leave it: tables, topics, agents' files, journals."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ledger_rows import ledger
from thalweg.agent.fleet import NodeSpec
from thalweg.agent.store import AgentStore, HeldAssignment, HeldState
from thalweg.chaos import evidence as module
from thalweg.chaos.evidence import Evidence
from thalweg.chaos.journal import Journal, JournalSeat
from thalweg.chaos.rules import audit
from thalweg.conf.settings import KafkaSettings
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.contract.messages import AssignmentEvent, NodeShare
from thalweg.sync.delta.contracts import DECISIONS, RECORDS, TASKS, TASKS_ARCHIVE
from thalweg.sync.delta.store import append, open_or_create
from thalweg.sync.ledger.folds import fold_ledger

REGION = RegionId("aws:us-east-1")
REQUEST = json.dumps({"task_id": "a", "per_worker": {"gpu_milli": 500, "cpus": 2, "memory_gb": 1}, "workers": 2})
SHARE = {"node_id": "n", "workers": 2, "gpus": 0, "gpu_milli": 1_000, "devices": [1, 1]}
EVENT = AssignmentEvent(
    event_id="e",
    type="assign",
    task_id=TaskId("a"),
    epoch=1,
    region=REGION,
    nodes=[NodeShare(node_id="n", workers=2, gpu_milli=1_000, devices=[1, 1])],
)
FACTS: tuple[dict[str, Any], ...] = (
    {"task_id": "a", "transition": "submitted", "request": REQUEST},
    {"task_id": "a", "transition": "assigned", "epoch": 1, "region": REGION, "event_id": "e", "nodes": [SHARE]},
)


TOLD = {"event_id": "e", "type": "assign", "task_id": "a", "epoch": 1, "region": REGION}


def record(value: bytes, key: bytes = b"", refused_from: str = "") -> IncomingRecord:
    headers = [("topic", refused_from.encode())]
    return IncomingRecord(topic="t", partition=0, offset=0, timestamp_ms=0, key=key, value=value, headers=headers)


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task that runs, a refusal, a record."""
    warehouse = tmp_path / "warehouse"
    append(open_or_create(DECISIONS, str(warehouse)), ledger(*FACTS))
    for contract, table in (
        (TASKS, fold_ledger(ledger(*FACTS))[0]),
        (TASKS_ARCHIVE, TASKS_ARCHIVE.schema.empty_table()),
    ):
        append(open_or_create(contract, str(warehouse)), table)
    open_or_create(RECORDS, str(warehouse))
    store = AgentStore(tmp_path / "agents" / "one")
    held = HeldAssignment(event=EVENT, state=HeldState.RUNNING, started_ms=5)
    with store.fence.transaction():
        store.hold(held)
        store.begin_run(held, 5)
    store.close()
    Journal(tmp_path / "journals" / "one", lambda: 7).note(
        "begin", (REGION, "a", 1), [JournalSeat("n", 1, 500), JournalSeat("n", 1, 500)]
    )

    def records(kafka: KafkaSettings, *, topics: Any = (), pattern: str | None = None) -> list[IncomingRecord]:
        if pattern is not None:
            return [record(json.dumps(TOLD).encode())]
        return [record(b"?", b"bad", "thalweg.requests"), record(b"?", b"sample", "thalweg.telemetry.r")]

    monkeypatch.setattr(module, "records_until_now", records)
    return tmp_path


def gathered(left: Path) -> Evidence:
    evidence = Evidence(left / "evidence.sqlite")
    evidence.read_fleet({(REGION, "n"): NodeSpec(node_id="n", gpus=2, cpus=4, memory_gb=2)})
    evidence.add("asked", [("a",)])
    evidence.add("nonsense", [("bad",)])
    for _ in range(2):  # looked at twice, as while it heals
        evidence.forget()
        evidence.read_tables(str(left / "warehouse"))
        evidence.read_topics(KafkaSettings(bootstrap_servers="x:1"))
        evidence.read_agents([left / "agents" / "one"])
        evidence.read_machines(left / "journals")
    return evidence


def test_a_running_task_is_the_same_for_all_who_tell_of_it(left: Path) -> None:
    findings = audit(gathered(left))
    assert findings.violations == []
    assert (findings.accepted, findings.placed, findings.standing, findings.rows) == (1, 1, 1, 2)


def test_every_source_was_read(left: Path) -> None:
    evidence = gathered(left)
    counts = {table: evidence.count(f"SELECT COUNT(*) FROM {table}") for table in module.ANEW}
    assert counts == {
        "refused": 1,
        "records": 0,
        "ledger": 2,
        "tabled": 1,
        "shares": 1,
        "seats": 2,
        "runs": 1,
        "held": 1,
        "machines": 1,
        "machine_seats": 2,
    }
    assert evidence.db.execute("SELECT DISTINCT milli FROM seats").fetchall() == [(500,)]
    assert evidence.count("SELECT COUNT(*) FROM heard") == 1


def test_a_file_that_was_set_aside_says_what_ran_and_not_what_is_held(left: Path) -> None:
    evidence = gathered(left)
    evidence.forget()
    evidence.read_agents([], [left / "agents" / "one"])
    assert evidence.count("SELECT COUNT(*) FROM runs") == 1
    assert evidence.count("SELECT COUNT(*) FROM held") == 0
