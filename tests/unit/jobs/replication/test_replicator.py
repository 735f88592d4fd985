"""A micro-batch against real Delta tables, without Spark and Kafka: what is written, and what a crash leaves."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from thalweg.client.replica_client import packed
from thalweg.jobs.microbatch.dead_letters import DeadLetters
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.microbatch.microbatch import Microbatch
from thalweg.jobs.microbatch.outcome import BatchId, BatchOutcome
from thalweg.jobs.replication.alarm import Alarm
from thalweg.jobs.replication.publication import TopicReplacedError
from thalweg.jobs.replication.replicator import ORDER, ReplicationLimits, Replicator
from thalweg.jobs.runtime.job import Stop
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.contract.state_messages import StateInput, encode_batch
from thalweg.streams.contract.topics import STATE, topic_name
from thalweg.streams.replication.replica_log import LogRecord, read_entry, write_entry
from thalweg.sync.delta.store import AnotherWriterError, table_uri
from thalweg.sync.protocol.changes import Add, Assign, Change, Delete
from thalweg.sync.protocol.digests import digests_of
from thalweg.sync.protocol.entries import Entry, RecordEntry, UpMessage
from thalweg.sync.protocol.records import decode_record
from thalweg.sync.protocol.stamps import FutureLimits
from thalweg.sync.replica.memory_store import MemoryStore
from thalweg.sync.replica.replica import Replica
from thalweg.sync.tables.replicate_tables import ReplicateTables

NOW = 1_700_000_000_000
LIMITS = ReplicationLimits(
    topic_prefix="t",
    policies={"dataset/": {"copies": "add_wins_set"}},
    limits=FutureLimits(),
    tombstone_age_ms=0,
    ask_again_ms=1_000,
    digest_every_ms=1_000,
)


class MemoryLog:
    """The replica topic as a list."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []

    def publish(self, records: Sequence[LogRecord]) -> int:
        self.records += records
        return len(self.records)

    def entries(self, start: int) -> list[Entry]:
        read = (read_entry(r.key, r.value, r.headers) for r in self.records[start:])
        return [entry for entry in read if entry is not None]


class Letters:
    """The dead-letter topic as a list."""

    def __init__(self) -> None:
        self.records: list[OutgoingRecord] = []

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        self.records += records

    def close(self) -> None:
        pass


class NoWait(Stop):
    """Stops never and waits never."""

    def wait(self, seconds: float) -> bool:
        return False


class Stage:
    """A replicator over tables in a folder, with replicas that read its log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = MemoryLog()
        self.letters = Letters()
        self.offsets: dict[str, int] = {}
        self.batch_id = 0
        self.now = NOW
        self.host = Host()
        self.topic = "topic-1"
        self.state_topics: dict[str, str] = {}
        self.wakes: list[int | None] = []
        self.restart()

    def restart(self, stop: Stop | None = None) -> None:
        self.tables = ReplicateTables(str(self.folder))
        self.replicator = Replicator(
            tables=self.tables,
            log=self.log,
            limits=LIMITS,
            position=len(self.log.records),
            clock=lambda: self.now,
            isolation=self.host.isolation,
            replica_topic=self.topic,
            state_topics=self.state_topics,
            wake_at=self.wakes.append,
        )
        self.batches: Microbatch[Sequence[StateInput]] = Microbatch(
            job="replicate",
            order=ORDER,
            read=lambda frame, _: frame.records,
            decide=self._decide,
            dead_letters=DeadLetters("t", lambda: self.letters),
            stop=stop or NoWait(),
        )

    def _decide(self, records: Sequence[StateInput], batch: BatchId) -> BatchOutcome:
        self.outcome = self.replicator.decide(records, batch)
        return self.outcome

    def inputs(self, region: str, values: Sequence[bytes | None], key: bytes | None = None) -> list[StateInput]:
        first = self.offsets.get(region, 0)
        self.offsets[region] = first + len(values)
        topic = topic_name(STATE, "t", region)
        return [
            StateInput(topic=topic, partition=0, offset=first + n, timestamp_ms=self.now, key=key, value=value)
            for n, value in enumerate(values)
        ]

    def take(self, records: Sequence[StateInput]) -> BatchOutcome:
        self.batch_id += 1
        self.now += 100
        self.batches.run(records, BatchId("q", self.batch_id))
        return self.outcome

    def join(self, region: str) -> Replica:
        replica = Replica(region, MemoryStore())
        self.take(self.inputs(region, [encode_batch([replica.join(self.now)])]))
        self.read(replica)
        return replica

    def read(self, *replicas: Replica) -> None:
        for replica in replicas:
            entries = self.log.entries(replica.state.position)
            replica.apply(entries, len(self.log.records), self.now)

    def said(self, *replicas: Replica) -> list[StateInput]:
        records = []
        for replica in replicas:
            messages: list[UpMessage] = [*replica.outgoing(), replica.heartbeat(self.now)]
            request = replica.repair_request()
            messages += [request] if request else []
            records += self.inputs(replica.state.region, list(packed(messages)))
        return records

    def exchange(self, *replicas: Replica) -> Any:
        report = self.take(self.said(*replicas))
        self.read(*replicas)
        return report

    def rows(self, table: str) -> list[dict[str, Any]]:
        return DeltaTable(table_uri(str(self.folder), table)).to_pyarrow_table().to_pylist()

    def digests(self) -> list[int]:
        return digests_of(decode_record(row["state"]) for row in self.rows("records"))


def put(replica: Replica, key: str, change: Change, at: int = NOW) -> UpMessage:
    return replica.write(key, (change,), at)


def test_tables_topic_and_replicas_hold_the_same_and_conflicts_are_rows(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    eu, us = stage.join("eu"), stage.join("us")
    put(eu, "dataset/a", Add("copies", ("eu",)))
    put(us, "dataset/a", Assign("size_gb", 2.0))
    put(us, "k", Assign("f", "us"))
    stage.exchange(eu, us)
    [row] = stage.rows("conflicts")
    assert (row["key"], row["policy"], row["left_region"], row["right_region"]) == ("dataset/a", "none", "eu", "us")
    assert json.loads(row["left_value"]) == {"copies": ["eu"]} and json.loads(row["right_value"]) == {"size_gb": 2.0}
    records = {row["key"]: row for row in stage.rows("records")}
    assert json.loads(records["dataset/a"]["value"]) == {"copies": ["eu"], "size_gb": 2.0}
    assert records["dataset/a"]["policy"] == "last_writer,add_wins_set" and records["k"]["version"] == 1
    assert stage.digests() == digests_of(eu.store.records.values()) == digests_of(us.store.records.values())  # type: ignore[attr-defined]
    for _ in range(3):
        stage.now += 1_000
        stage.exchange(eu, us)
    regions = {row["region"]: row for row in stage.rows("sync_regions")}
    assert regions["eu"]["digest_agrees"] is True and regions["us"]["waiting"] == 0 and regions["us"]["conflicts"] == 1


def test_a_deleted_record_leaves_the_table_when_every_region_has_acknowledged(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    eu, us = stage.join("eu"), stage.join("us")
    put(eu, "k", Assign("f", 1))
    stage.exchange(eu, us)
    put(eu, "k", Delete(), NOW + 1)
    stage.exchange(eu, us)
    assert stage.rows("records")[0]["deleted"] is True
    for _ in range(4):
        stage.exchange(eu, us)
    assert stage.rows("records") == [] and eu.store.get("k") is None
    put(us, "k", Assign("f", 2), NOW + 2)
    stage.exchange(eu, us)
    assert eu.read("k") == {"f": 2}


@pytest.mark.parametrize(
    "stop_before", ["add_conflicts", "write_records", "write_gaps", "add_refused", "write_regions", "forget"]
)
def test_a_crash_before_any_write_is_repaired_by_taking_the_batch_again(
    tmp_path: Path, stop_before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path)
    eu, us = stage.join("eu"), stage.join("us")
    put(eu, "k", Assign("f", 1))
    put(us, "k", Assign("f", 2))
    put(us, "gone", Delete())
    counter = json.dumps({"key": "n", "value": {"n": 1}, "policies": {"n": "counter"}, "observed_at": NOW}).encode()
    years_ahead = json.dumps({"key": "k", "value": 1, "observed_at": NOW + 10**11}).encode()
    batch = [*stage.said(eu, us), *stage.inputs("eu", [counter, b"nonsense", years_ahead])]

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ReplicateTables, stop_before, crash)
        stage.take(batch)
    stage.restart()
    stage.batch_id -= 1
    stage.take(batch)
    assert {letter.value for letter in stage.letters.records} == {b"nonsense", years_ahead}
    stage.read(eu, us)
    assert eu.read("k") == us.read("k") == {"f": 2} and eu.read("n") == {"n": 1}
    assert len(stage.rows("conflicts")) == 1
    assert stage.digests() == digests_of(eu.store.records.values())  # type: ignore[attr-defined]
    stage.restart()
    put(eu, "k", Assign("f", 3), NOW + 5)
    for _ in range(4):
        stage.exchange(eu, us)
    assert us.read("k") == {"f": 3} and len(stage.rows("conflicts")) == 1
    assert [row["key"] for row in stage.rows("records")] == ["k", "n"] or {r["key"] for r in stage.rows("records")} == {
        "k",
        "n",
    }


def test_two_crashes_of_one_batch_list_no_conflict_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In between an update becomes due that was ahead of time: the second try finds more than the first."""
    stage = Stage(tmp_path)
    ap, eu, us = stage.join("ap"), stage.join("eu"), stage.join("us")
    put(us, "k", Assign("f", "early"), stage.now + 60_250)
    stage.exchange(us)
    put(ap, "k", Assign("f", 1), stage.now)
    put(eu, "k", Assign("f", 2), stage.now)
    batch = stage.said(ap, eu)
    found = []
    for stop_before in ("write_records", "write_regions"):

        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(ReplicateTables, stop_before, crash)
            stage.take(batch)
        found.append(len(stage.rows("conflicts")))
        stage.restart()
        stage.batch_id -= 1
    stage.take(batch)
    rows = stage.rows("conflicts")
    assert found == [1, 3] and len({row["conflict_id"] for row in rows}) == len(rows) == 3


def test_a_clock_a_little_ahead_is_counted_and_shown(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    eu = stage.join("eu")
    put(eu, "k", Assign("f", 1), stage.now + 2_000)
    stage.exchange(eu)
    assert [(row["warned"], row["parked"]) for row in stage.rows("sync_regions") if row["region"] == "eu"] == [(1, 0)]


def test_a_message_of_5_mb_is_refused_and_says_so(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    eu = stage.join("eu")
    large = json.dumps({"key": "big", "value": "x" * 5_000_000}).encode()
    put(eu, "k", Assign("f", 1))
    outcome = stage.take([*stage.inputs("eu", [large]), *stage.said(eu)])
    assert "5000" in outcome.refused[0].reason and [row["key"] for row in stage.rows("records")] == ["k"]
    [row] = [row for row in stage.rows("sync_regions") if row["region"] == "eu"]
    assert row["refused"] == 1 and "950000" in row["last_refusal"]


def test_what_somebody_else_writes_to_the_replica_topic_is_shown(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    eu = stage.join("eu")
    put(eu, "k", Assign("f", 1))
    stage.exchange(eu)
    start = len(stage.log.records)
    stage.log.records += [LogRecord(key=b"k", value=b'{"kind":"gossip"}'), LogRecord(key=b"k", value=None)]
    put(eu, "k", Assign("f", 2), NOW + 1)
    stage.exchange(eu)
    stage.exchange(eu)
    [row] = stage.rows("sync_refused")
    assert (row["verdict"], row["topic"], row["topic_offset"]) == ("foreign", "t.replica", start)
    assert "2 records" in row["reason"] and eu.read("k") == {"f": 2}
    stage.restart()
    stage.exchange(eu)
    assert len(stage.rows("sync_refused")) == 1


def test_a_replica_topic_made_anew_gets_everything_and_late_joiners_read_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    eu = stage.join("eu")
    eu.read_topic("topic-1")
    put(eu, "k", Assign("f", 1))
    stage.exchange(eu)
    stage.exchange(eu)
    stage.log, stage.topic = MemoryLog(), "topic-2"
    stage.restart()
    eu.read_topic("topic-2")
    stage.take(stage.inputs("us", [b'{"key": "other", "value": 1}']))  # whatever comes first
    assert {entry.record.key for entry in stage.log.entries(0) if isinstance(entry, RecordEntry)} == {"k", "other"}
    stage.read(eu)
    late = stage.join("us")
    assert late.read("k") == eu.read("k") == {"f": 1} and eu.read("other") == {"value": 1}
    published = len(stage.log.records)
    stage.restart()
    put(eu, "k", Assign("f", 2), stage.now)
    stage.exchange(eu)
    news = [entry.record.key for entry in stage.log.entries(published) if isinstance(entry, RecordEntry)]
    assert news == ["k"], "once is enough"


def test_a_replica_topic_made_anew_while_it_is_written_ends_this_life(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    eu = stage.join("eu")
    put(eu, "k", Assign("f", 1))
    stage.log.records.clear()
    with pytest.raises(TopicReplacedError, match="made anew"):
        stage.exchange(eu)


def test_plain_writes_of_a_state_topic_made_anew_are_taken(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.state_topics = {"eu": "state-1"}
    stage.restart()
    for number in range(3):
        stage.take(stage.inputs("eu", [b'{"key": "k", "value": {"f": %d}}' % number]))
    stage.offsets["eu"] = 0
    stage.state_topics = {"eu": "state-2"}
    stage.restart()
    stage.now += 1_000
    stage.take(stage.inputs("eu", [b'{"key": "k", "value": {"f": "new"}}']))
    assert json.loads(stage.rows("records")[0]["value"]) == {"f": "new"}


def test_parked_gaps_and_counts_survive_a_restart(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    eu = stage.join("eu")
    put(eu, "early", Assign("f", 1), NOW + 600_000)
    lost = put(eu, "lost", Assign("f", 1), NOW + 600_000)
    put(eu, "last", Assign("f", 1), NOW + 600_000)
    sent = [u for u in eu.outgoing() if u is not lost]
    stage.take([*stage.inputs("eu", [encode_batch(sent)]), *stage.inputs("eu", [b"{}"])])
    assert [(g["first_seq"], g["status"]) for g in stage.rows("sync_gaps")] == [(2, "open")]
    stage.restart()
    assert len(stage.replicator.centre.parking) == 2
    stage.read(eu)
    stage.exchange(eu)
    [gap] = stage.rows("sync_gaps")
    assert gap["status"] == "closed" and gap["closed_at"] > gap["found_at"]
    [region] = [row for row in stage.rows("sync_regions") if row["region"] == "eu"]
    assert (region["refused"], region["parked"]) == (1, 3) and "value" in region["last_refusal"]
    stage.now = NOW + 700_000
    stage.exchange(eu)
    assert {row["key"] for row in stage.rows("records")} == {"early", "lost", "last"}
    assert len([r for r in stage.rows("sync_refused") if r["verdict"] == "parked"]) == 3


def test_a_write_that_waits_for_its_stamp_is_merged_when_it_may_be_though_nobody_writes(tmp_path: Path) -> None:
    stage, woken = Stage(tmp_path), Letters()
    alarm = Alarm(lambda: woken, "t", lambda: stage.now)
    assert stage.wakes[-1] is None
    for ahead_ms in (200_000, 100_000):
        stamped = json.dumps({"key": f"k{ahead_ms}", "value": {"f": 1}, "observed_at": NOW + ahead_ms}).encode()
        stage.take(stage.inputs("eu", [stamped]))
    for _ in range(2):
        due = NOW + 100_000 - LIMITS.limits.park_ms
        assert stage.wakes[-1] == due
        stage.restart()
    alarm.set(stage.wakes[-1])
    alarm.step()
    assert woken.records == []
    stage.now = due
    alarm.step()
    [record] = woken.records
    assert record.topic == topic_name(STATE, "t", "control")
    stage.take(stage.inputs("control", [record.value]))
    assert [row["key"] for row in stage.rows("records")] == ["k100000"]
    assert stage.wakes[-1] == NOW + 200_000 - LIMITS.limits.park_ms
    stage.now = NOW + 300_000
    stage.take(stage.inputs("control", [record.value]))
    assert stage.wakes[-1] is None
    assert {row["region"] for row in stage.rows("sync_regions")} == {"eu", "@centre"}, "nobody speaks there"


def test_a_repair_sends_only_the_buckets_that_differ(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    eu, us = stage.join("eu"), stage.join("us")
    for n in range(400):
        put(eu, f"k{n}", Assign("f", n))
    stage.exchange(eu, us)
    us.store.drop("k7")
    stage.now += 2_000
    stage.exchange(us)
    stage.exchange(us)
    before = len(stage.log.records)
    assert us.read("k7") == {"f": 7} or us.differing
    stage.exchange(us)
    assert us.read("k7") == {"f": 7}
    assert len(stage.log.records) - before < 20


def test_a_second_writer_is_noticed(tmp_path: Path) -> None:
    stage, other = Stage(tmp_path), Stage(tmp_path)
    eu = stage.join("eu")
    put(eu, "k", Assign("f", 1))
    stage.exchange(eu)
    with pytest.raises(AnotherWriterError):
        other.join("us")


def test_a_foreign_record_on_the_replica_topic_is_skipped() -> None:
    assert read_entry(b"k", b"hello", ()) is None
    assert read_entry(b"k", None, ()) is None
    assert read_entry(None, b'{"kind":"unheard-of"}', ()) is None


def test_entries_survive_the_topic() -> None:
    stage_log = MemoryLog()
    from thalweg.sync.centre.centre import Centre

    centre = Centre()
    replica = Replica("eu", MemoryStore())
    entries = centre.merge_batch([replica.join(NOW)], NOW).entries
    replica.apply(entries, 1, NOW)
    put(replica, "ключ", Add("s", ("q",)))
    entries += [*centre.merge_batch(replica.outgoing(), NOW).entries, centre.digest_entry()]
    stage_log.publish([write_entry(entry) for entry in entries])
    assert stage_log.entries(0) == entries
