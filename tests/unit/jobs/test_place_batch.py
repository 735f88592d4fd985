"""One micro-batch of `place` without Spark: what it commits before it publishes, and how it meets trouble."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from tests.place_driver import Driver
from thalweg.conf.settings import Settings, WarehouseSettings
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.placement import metrics as place_metrics
from thalweg.jobs.runtime.job import Stop
from thalweg.scheduling.world.facts import NodeFacts, WorldFacts
from thalweg.streams.broker.errors import NotAcknowledgedError
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.broker.range_reader import SCHEMA
from thalweg.sync.ledger.ledger import Ledger

FACTS = WorldFacts(
    nodes=[
        NodeFacts(
            region="east", node_id="n", gpu_model="A100", spot=False, gpus=8, cpus=96.0, memory_gb=512.0, ready=True
        )
    ],
    links={},
    prices={("east", "A100", False): 2.0},
)


class Outbox:
    """Takes records, after refusing the first few calls; remembers what the ledger held at each call."""

    def __init__(self, ledger: Ledger, refuse: int = 0) -> None:
        self.records: list[OutgoingRecord] = []
        self.committed: list[int | None] = []
        self._ledger, self._refuse = ledger, refuse

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        self.committed.append(self._ledger.committed_batch("q"))
        if self._refuse:
            self._refuse -= 1
            raise NotAcknowledgedError(len(records), len(records), 10, ["t"], "broker away")
        self.records += records

    def close(self) -> None:
        pass


class Killed:
    """A broker that nothing reaches any more: the process ends at the first try."""

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        raise KeyboardInterrupt

    def close(self) -> None:
        pass


class NoWait(Stop):
    """Stops never and waits never."""

    def wait(self, seconds: float) -> bool:
        return False


def placer(folder: Path, refuse: int = 0, host: Host | None = None) -> tuple[Driver, Outbox]:
    settings, ledger = Settings(warehouse=WarehouseSettings(path=str(folder))), Ledger.claim(str(folder))
    outbox = Outbox(ledger, refuse)
    facts = iter([FACTS])
    made = Driver.of(
        settings=settings,
        ledger=ledger,
        publisher=outbox,
        facts=lambda: next(facts, WorldFacts()),
        clock=lambda: 1_000,
        stop=NoWait(),
        host=host or Host(),
    )
    return made, outbox


def received(*rows: tuple[str, object]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"topic": topic, "partition": 0, "offset": offset, "timestamp_ms": offset, "key": b"k",
             "value": value if isinstance(value, bytes) else json.dumps(value).encode()}
            for offset, (topic, value) in enumerate(rows)
        ],
        schema=SCHEMA,
    )  # fmt: skip


def shifted(batch: pa.Table, by: int) -> pa.Table:
    """The same records further on in their topics."""
    for name in ("offset", "timestamp_ms"):
        values = pa.array([value + by for value in batch.column(name).to_pylist()], pa.int64())
        batch = batch.set_column(batch.schema.get_field_index(name), name, values)
    return batch


BEAT = ("thalweg.status.east", {"type": "heartbeat", "region": "east"})
TASK = ("thalweg.requests", {"task_id": "t", "per_worker": {"gpus": 1}, "mine": "kept"})


def test_the_ledger_has_a_batch_before_anything_of_it_is_published(tmp_path: Path) -> None:
    job, outbox = placer(tmp_path)
    job.take(received(BEAT, TASK), "q", 3)
    assert outbox.committed == [3]
    assert [record.topic for record in outbox.records] == ["thalweg.assignments.east"]
    submitted = job.placer.ledger.batch("q", 3).to_pylist()[0]
    assert json.loads(submitted["request"])["mine"] == "kept", "fields we do not know stay with the request"


def test_a_batch_that_changes_nothing_commits_nothing(tmp_path: Path) -> None:
    job, outbox = placer(tmp_path)
    job.take(received(BEAT), "q", 0)
    job.take(received(BEAT, ("thalweg.requests", b"not json")), "q", 1)
    assert job.placer.ledger.committed_batch("q") is None
    assert [record.topic for record in outbox.records] == ["thalweg.results", "thalweg.deadletter"]


def test_a_batch_whose_plan_fails_is_taken_without_one_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("a mistake of the planner")

    first, _ = placer(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr("thalweg.jobs.placement.placer.plan", fails)
        with pytest.raises(ValueError, match="mistake"):
            first.take(received(BEAT, TASK), "q", 0)
        assert first.placer.ledger.committed_batch("q") is None
        second, outbox = placer(tmp_path, host=first.placer.host)
        second.take(received(BEAT, TASK), "q", 0)
        assert [row["transition"] for row in second.placer.ledger.batch("q", 0).to_pylist()] == ["submitted"]
        assert outbox.records == []
    second.take(received(BEAT), "q", 1)
    assert [record.topic for record in outbox.records] == ["thalweg.assignments.east"]


def test_a_full_disk_holds_the_batch_until_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, outbox = placer(tmp_path)
    tries = []
    write = job.placer.ledger.commit

    def full_twice(rows: pa.Table, query_id: str, batch_id: int, offsets: int) -> int:
        tries.append(batch_id)
        if len(tries) < 3:
            assert outbox.records == []
            raise OSError(28, "No space left on device")
        return write(rows, query_id, batch_id, offsets)

    monkeypatch.setattr(job.placer.ledger, "commit", full_twice)
    job.take(received(BEAT, TASK), "q", 0)
    assert tries == [0, 0, 0]
    assert len(outbox.records) == 1
    assert job.placer.ledger.batch("q", 0).num_rows == 2


def test_a_broker_that_is_away_gets_the_same_events_when_it_returns(tmp_path: Path) -> None:
    job, outbox = placer(tmp_path, refuse=2)
    job.take(received(BEAT, TASK), "q", 0)
    assert len(outbox.committed) == 3
    assert [record.key for record in outbox.records] == [b"t"]


def test_the_same_batch_decided_by_two_drivers_gives_the_same_rows_and_ids(tmp_path: Path) -> None:
    rows = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        job, _ = placer(folder)
        job.take(received(BEAT, TASK, ("thalweg.requests", {"task_id": "u"})), "q", 0)
        rows.append(job.placer.ledger.batch("q", 0))
    assert rows[0].equals(rows[1])


def test_the_same_records_read_in_another_order_give_the_same_plan(tmp_path: Path) -> None:
    tasks = [
        (
            "thalweg.requests",
            {"task_id": f"t{index}", "priority": 400 + index % 3, "per_worker": {"gpus": 1 + index % 3}},
        )
        for index in range(8)
    ]
    batch = received(BEAT, *tasks)
    decided = []
    for name, order in (("a", range(9)), ("b", range(8, -1, -1)), ("c", (5, 6, 7, 8, 0, 1, 2, 3, 4))):
        (tmp_path / name).mkdir()
        job, _ = placer(tmp_path / name)
        job.take(batch.take(pa.array(order)), "q", 0)
        decided.append(job.placer.ledger.batch("q", 0))
    assert decided[0].equals(decided[1])
    assert decided[0].equals(decided[2])
    assert set(decided[0].column("transition").to_pylist()) == {"submitted", "assigned", "waiting"}


def test_a_batch_that_is_repeated_publishes_its_events_and_its_refusals_again(tmp_path: Path) -> None:
    job, outbox = placer(tmp_path)
    batch = received(
        BEAT,
        TASK,
        ("thalweg.requests", b"not json"),
        ("thalweg.requests", {"task_id": "t", "per_worker": {"gpus": 2}}),  # another task's id
        ("thalweg.requests", {"task_id": "big", "per_worker": {"gpus": 8}, "workers": 100_000}),
        ("thalweg.requests", {"task_id": "ended", "expected_s": 1}),
        ("thalweg.requests", {"op": "cancel", "task_id": "ended"}),
        ("thalweg.requests", {"op": "cancel", "task_id": "late"}),  # nobody has asked for it yet
        ("thalweg.requests", {"op": "update", "task_id": "late", "priority": 7}),
        ("thalweg.requests", {"task_id": "late", "priority": 7}),
    )
    job.take(batch, "q", 0)
    published = list(outbox.records)
    # Told of as ended: what was cancelled, and the two that cannot be read, by their key.
    beside = Counter(record.topic for record in published if "assign" not in record.topic)
    assert beside == {"thalweg.deadletter": 5, "thalweg.results": 3}
    again, outbox = placer(tmp_path)
    again.take(batch, "q", 0)
    assert {(record.topic, str(record.headers)) for record in outbox.records} == {
        (record.topic, str(record.headers)) for record in published
    }


@pytest.mark.parametrize(
    ("query_id", "batch_id"), [("q", 7), ("q", 8), ("q", 2), ("another", 0)], ids=["same", "next", "put back", "lost"]
)
def test_what_was_committed_and_not_told_is_told_by_the_next_life_whatever_its_checkpoint(
    query_id: str, batch_id: int, tmp_path: Path
) -> None:
    job, told = placer(tmp_path)
    job.take(received(BEAT, TASK), "q", 6)
    job.placer.publisher = Killed()
    with pytest.raises(KeyboardInterrupt):
        job.take(shifted(received(BEAT, ("thalweg.requests", {"task_id": "u", "per_worker": {"gpus": 1}})), 10), "q", 7)
    assert job.placer.ledger.committed_batch("q") == 7
    assert [record.key for record in told.records] == [b"t"]
    again, outbox = placer(tmp_path)
    again.take(shifted(received(BEAT, ("thalweg.requests", {"task_id": "v"})), 20), query_id, batch_id)
    assert outbox.records[0].key == b"u"
    ids = [row["event_id"] for row in again.placer.ledger.last_batch.to_pylist() if row["event_id"] is not None]
    assert dict(outbox.records[0].headers)["ce_id"].decode() == ids[0]
    assert outbox.committed[0] == 7, "before the ledger goes on"
    again.take(shifted(received(BEAT), 30), query_id, batch_id + 1)
    assert [record.key for record in outbox.records].count(b"u") == 1, "once a life"


def test_a_fact_that_cannot_be_is_logged_once_and_counted_and_the_others_are_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job, outbox = placer(tmp_path)
    assert FACTS.nodes is not None
    odd = replace(FACTS.nodes[0], region="west", gpus=5_000)
    readings = iter([replace(FACTS, nodes=[*FACTS.nodes, odd]), WorldFacts(), WorldFacts(nodes=[*FACTS.nodes, odd])])
    job.placer.fold.facts.fresh = lambda: next(readings, WorldFacts())
    for batch in range(3):
        job.take(received(BEAT, TASK), "q", batch)
    assert [record.topic for record in outbox.records] == ["thalweg.assignments.east"]
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.message == "a fact is left out; the others are taken"
    assert warning.fields["key"] == ["west", "n"]  # type: ignore[attr-defined]
    assert place_metrics.LEFT_OUT.labels("nodes")._value.get() == 1


def test_a_node_that_drains_and_then_shrinks_revokes_only_what_it_cannot_hold(tmp_path: Path) -> None:
    job, outbox = placer(tmp_path)
    assert FACTS.nodes is not None
    (node,) = FACTS.nodes
    drains = replace(node, ready=False, draining=True)
    readings = iter([FACTS, WorldFacts(nodes=[drains]), WorldFacts(nodes=[replace(drains, gpus=0)])])
    job.placer.fold.facts.fresh = lambda: next(readings, WorldFacts())
    job.take(received(BEAT, TASK), "q", 0)
    job.take(received(BEAT), "q", 1)
    assert len(outbox.records) == 1
    job.take(received(BEAT), "q", 2)
    assert job.placer.ledger.batch("q", 2).column("transition")[0].as_py() == "revoked"
    assert json.loads(outbox.records[1].value or b"")["type"] == "revoke"


def test_a_region_that_said_goodbye_is_given_nothing_new_until_it_speaks_again(tmp_path: Path) -> None:
    job, outbox = placer(tmp_path)
    goodbye = ("thalweg.status.east", {"type": "goodbye", "region": "east"})
    job.take(received(BEAT, goodbye), "q", 0)
    job.take(received(TASK), "q", 1)
    assert outbox.records == []
    job.take(received(BEAT), "q", 2)
    assert [record.topic for record in outbox.records] == ["thalweg.assignments.east"]
