"""The sync plane live: real broker, Spark, Delta, replicas in files, and a proxy that cuts them off."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.patience import PATIENCE_S
from thalweg.benchmarks.sync.proxied_broker import ProxiedBroker
from thalweg.benchmarks.sync.proxy import Proxy
from thalweg.cli.sync_command import sync as sync_command
from thalweg.client.replica_client import ReplicaClient
from thalweg.conf.settings import Settings, load_settings
from thalweg.jobs import replicate
from thalweg.jobs.runtime.job import Stop
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.contract.state_messages import encode_batch
from thalweg.streams.contract.topics import DEADLETTER, REPLICA, STATE, topic_name
from thalweg.streams.replication.replica_log import read_entry
from thalweg.sync.clock import system_clock
from thalweg.sync.delta.store import table_uri
from thalweg.sync.protocol.changes import Add, Assign, Increment
from thalweg.sync.protocol.digests import digests_of
from thalweg.sync.protocol.entries import ForgetEntry, RecordEntry, Update
from thalweg.sync.protocol.records import Record, Register, decode_record
from thalweg.sync.protocol.stamps import Hlc, Stamp
from thalweg.sync.replica.replica import FencedError

pytestmark = pytest.mark.acceptance


def settings_for(bootstrap: str, folder: Path, prefix: str, **replicate_options: object) -> Settings:
    options = [f"replicate.{name}={value}" for name, value in replicate_options.items()]
    return load_settings(
        None,
        [
            f"kafka.bootstrap_servers={bootstrap}",
            f"kafka.topic_prefix={prefix}",
            f"warehouse.path={folder / 'warehouse'}",
            f"spark.checkpoints={folder / 'checkpoints'}",
            "replicate.tombstone_age_ms=0",
            "replicate.digest_every_ms=1000",
            *options,
        ],
        {},
    )


@contextmanager
def running(spark: Any, settings: Settings) -> Iterator[Any]:
    stop = Stop()
    query = replicate.start(spark, settings, system_clock, stop)
    try:
        yield query
    finally:
        query.stop()
        stop.finish()


@contextmanager
def delayed(proxy: Proxy) -> Iterator[None]:
    """Let the way be a long one: 100 ms there and back, and one chunk in a hundred lost once."""
    proxy.delay_s, proxy.loss = 0.05, 0.01
    try:
        yield
    finally:
        proxy.delay_s, proxy.loss = 0.0, 0.0


def until(reached: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.1)


def rows(settings: Settings, table: str) -> list[dict[str, Any]]:
    from deltalake import DeltaTable

    return DeltaTable(table_uri(settings.warehouse.path, table)).to_pyarrow_table().to_pylist()


def topic_state(settings: Settings, bootstrap: str) -> dict[str, Record]:
    """What a reader of the whole replica topic holds at its end."""
    state: dict[str, Record] = {}
    for record in whole_topic(bootstrap, topic_name(REPLICA, settings.kafka.topic_prefix)):
        entry = read_entry(record.key, record.value, record.headers)
        if isinstance(entry, RecordEntry):
            state[entry.record.key] = entry.record
        elif isinstance(entry, ForgetEntry):
            state.pop(entry.key, None)
    return state


def whole_topic(bootstrap: str, topic: str) -> list[Any]:
    """Every record that the topic's one partition holds now."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end = consumer.end_offsets([partition])[partition]
    records = []
    while consumer.position(partition) < end:
        for batch in consumer.poll(timeout_ms=500).values():
            records += batch
    consumer.close()
    return records


def table_state(settings: Settings) -> dict[str, Record]:
    return {row["key"]: decode_record(row["state"]) for row in rows(settings, "records")}


def test_two_regions_write_the_same_keys_while_cut_and_end_with_the_same_records(
    spark: Any, links: ProxiedBroker, tmp_path: Path
) -> None:
    settings = settings_for(links.bootstrap, tmp_path, "cut")
    with ExitStack() as stack:
        stack.enter_context(running(spark, settings))
        eu, us = (
            stack.enter_context(ReplicaClient(region, tmp_path / f"{region}.db", links.kafka(region, "cut")))
            for region in ("eu", "us")
        )
        assert eu.wait_joined() and us.wait_joined()
        stack.enter_context(delayed(links.proxies["us"]))
        eu.put("dataset/a", Assign("size_gb", 1.0), Add("copies", ("eu",)))
        until(lambda: us.read("dataset/a") == {"copies": ["eu"], "size_gb": 1.0})

        links.proxies["eu"].cut()
        links.proxies["us"].cut()
        for n in range(20):
            eu.put("dataset/a", Assign("size_gb", float(n)), Add("copies", ("eu-2",)))
            us.put("dataset/a", Assign("size_gb", 100.0 + n), Add("copies", ("us",)))
            eu.put(f"k{n}", Increment("count", 1))
            us.put(f"k{n}", Increment("count", 2))
        eu.delete("k0")
        assert eu.lag().waiting >= 41 and us.read("k1") == {"count": 2}
        links.proxies["eu"].restore()
        links.proxies["us"].restore()

        assert eu.wait_confirmed() and us.wait_confirmed()
        expected = {f"k{n}": {"count": 3} for n in range(1, 20)}
        until(lambda: all(eu.read(k) == us.read(k) == v for k, v in expected.items()))
        until(lambda: eu.digests() == us.digests())
        assert eu.read("dataset/a") == us.read("dataset/a")
        assert eu.read("dataset/a")["copies"] == ["eu", "eu-2", "us"]  # type: ignore[index]

        until(lambda: eu.lag().digests_agree is True and us.lag().digests_agree is True)
        until(lambda: digests_of(table_state(settings).values()) == list(eu.digests()))
        assert digests_of(topic_state(settings, links.bootstrap).values()) == list(eu.digests())

        found = rows(settings, "conflicts")
        assert len({row["conflict_id"] for row in found}) == len(found)
        by_key: dict[str, int] = {}
        for row in found:
            by_key[row["key"]] = by_key.get(row["key"], 0) + 1
        # Every write of one side against every write of the other: 20 x 20 on the shared key, 1 x 1 on each other,
        # and the delete of k0 against the other side's increment.
        assert by_key == {"dataset/a": 400, "k0": 2, **{f"k{n}": 1 for n in range(1, 20)}}
        assert {row["winner_region"] for row in found} <= {"eu", "us"}
        sample = next(row for row in found if row["key"] == "dataset/a")
        assert json.loads(sample["left_vector"]) != json.loads(sample["right_vector"])
        assert (sample["policy"], sample["resolution"]) == ("add_wins_set+last_writer", "newer_wins")


def test_bad_messages_are_refused_with_a_reason_and_the_stream_goes_on(
    spark: Any, links: ProxiedBroker, tmp_path: Path
) -> None:
    settings = settings_for(links.bootstrap, tmp_path, "bad")
    topic = topic_name(STATE, "bad", "eu")
    with ExitStack() as stack:
        stack.enter_context(running(spark, settings))
        eu = stack.enter_context(ReplicaClient("eu", tmp_path / "eu.db", links.kafka("eu", "bad")))
        assert eu.wait_joined()
        producer = KafkaProducer(bootstrap_servers=links.bootstrap, max_request_size=8_000_000)
        now_ms = system_clock()
        bad = {
            "not JSON": b"\xff\x00 hello",
            "foreign": b'{"temperature": 21}',
            "half a stamp": b'{"key": "k", "value": 1, "stamp": {"counter": 3}}',
            "no time zone": b'{"key": "k", "value": 1, "observed_at": "2026-01-01T00:00:00"}',
            "another region's stamp": b'{"key": "k", "value": 1, "stamp": {"ms": 1, "region": "us"}}',
            "another region's batch": b'{"batch": [{"kind": "join", "region": "us", "epoch": 99999999, "at_ms": 1}]}',
            "an epoch of no store": b'{"batch": [{"kind": "join", "region": "eu", "epoch": 7, "at_ms": 1}]}',
            "a reserved key": b'{"key": "\\u0000digests", "value": 1}',
            "too large": json.dumps({"key": "big", "value": "x" * 950_000}).encode(),
            "of 5 MB": json.dumps({"key": "bigger", "value": "x" * 5_000_000}).encode(),
            "nested without end": b'{"key": "k", "value": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
            "years ahead": json.dumps({"key": "k", "value": 1, "observed_at": now_ms + 10**11}).encode(),
        }
        for value in bad.values():
            producer.send(topic, value, key=b"k")
        grown = {"key": "ключ 🔑\n", "value": {"old": 1, "new field": {"deep": [1, None]}}, "shoe_size": 43}
        producer.send(topic, json.dumps(grown).encode())
        producer.send(topic, None, key=b"deleted-before-it-was")
        ahead = {"key": "early", "value": {"f": 1}, "observed_at": now_ms + 300_000, "version": 1}
        producer.send(topic, json.dumps(ahead).encode())
        producer.flush()
        eu.put("other", Assign("f", 1))
        assert eu.wait_confirmed()
        stamp = eu.record("other")
        assert stamp is not None
        epoch = int(next(iter(stamp.vector)).rpartition("@")[2])
        for name, update in forged_updates(stamp, epoch).items():
            bad[name] = encode_batch([update])
            producer.send(topic, bad[name], key=b"k")
        # Something foreign on the replica topic itself: readers skip it, and the centre says so.
        producer.send(topic_name(REPLICA, "bad"), b"hello", key=b"foreign")
        producer.flush()
        producer.close()

        until(lambda: eu.read("ключ 🔑\n") == {"old": 1, "new field": {"deep": [1, None]}})
        until(lambda: len([r for r in rows(settings, "sync_refused") if r["verdict"] == "refused"]) >= len(bad))
        until(lambda: any(r["verdict"] == "foreign" for r in rows(settings, "sync_refused")))
        listed = rows(settings, "sync_refused")
        assert [r["topic"] for r in listed if r["verdict"] == "foreign"] == [topic_name(REPLICA, "bad")]
        assert len([r for r in listed if r["verdict"] == "refused"]) == len(bad)
        assert [r["key"] for r in listed if r["verdict"] == "parked"] == ["early"]
        assert eu.read("early") is None and eu.read("k") is None
        region = next(r for r in rows(settings, "sync_regions") if r["region"] == "eu")
        assert region["refused"] == len(bad) and region["parked"] == 1 and region["last_refusal"]

        shown = CliRunner().invoke(sync_command, ["--warehouse", settings.warehouse.path, "--json"])
        assert shown.exit_code == 0, shown.output
        document = json.loads(shown.output)
        [said] = document["regions"]
        assert (said["refused"], said["parked"]) == (len(bad), 1) and said["last_refusal"]
        assert len(document["newest_refusals"]) == 10

        letters = dead_letters(links.bootstrap, "bad")
        assert len(letters) == len(bad) and all(letter["reason"] for letter in letters)
        values = {letter["value"] for letter in letters}
        assert {value for name, value in bad.items() if name not in forged_updates(stamp, epoch)} <= values
        eu.put("after", Assign("f", 1))
        assert eu.wait_confirmed()


def forged_updates(known: Record, epoch: int) -> dict[str, Update]:
    """Updates that are well formed and must not be obeyed, by what is wrong with them."""
    at = Hlc(known.at.ms + 1, 0, "eu")
    mine, others = f"eu@{epoch}", f"us@{epoch}"
    record = Record(key="forged", written=at, version=1, vector={mine: 9}, last={"f": Register("forged", at)})
    stamp = Stamp(ms=at.ms, counter=0, region="eu", epoch=epoch, seq=9, version=1)
    change = msgspec.structs.replace
    return {
        "another's sequence": Update(change(record, vector={mine: 9, others: 5}), stamp, ("last_writer:f",)),
        "a replayed old epoch": Update(
            change(record, vector={f"eu@{epoch - 1}": 9}), change(stamp, epoch=epoch - 1), ("last_writer:f",)
        ),
        "no sequence": Update(change(record, vector={mine: 0}), change(stamp, seq=0), ("last_writer:f",)),
        "a field stamped ahead": Update(
            change(record, last={"f": Register("forged", Hlc(at.ms + 10**9, 0, "eu"))}), stamp, ("last_writer:f",)
        ),
    }


def dead_letters(bootstrap: str, prefix: str) -> list[dict[str, Any]]:
    letters = whole_topic(bootstrap, topic_name(DEADLETTER, prefix))
    return [{"value": r.value, **{k: v.decode() for k, v in r.headers}} for r in letters]


def test_a_lost_update_is_a_gap_that_is_asked_for_and_closed(spark: Any, links: ProxiedBroker, tmp_path: Path) -> None:
    settings = settings_for(links.bootstrap, tmp_path, "gap", ask_again_ms=500)
    with running(spark, settings), ReplicaClient("eu", tmp_path / "eu.db", links.kafka("eu", "gap")) as eu:
        assert eu.wait_joined()
        with eu._lock:  # what a broker loses that acknowledged and then lost its disk: sent, and not in the topic
            eu.put("lost", Assign("f", 1))
            eu._replica.outgoing()
        eu.put("kept", Assign("f", 2))
        until(lambda: any(row["status"] == "closed" for row in rows(settings, "sync_gaps")))
        gap = rows(settings, "sync_gaps")[0]
        assert (gap["region"], gap["first_seq"], gap["last_seq"]) == ("eu", 1, 1)
        assert gap["closed_at"] >= gap["found_at"]
        assert eu.wait_confirmed()
        until(lambda: "lost" in table_state(settings))


def test_a_write_ahead_of_time_is_merged_when_it_is_due_though_nobody_writes_any_more(
    spark: Any, links: ProxiedBroker, tmp_path: Path
) -> None:
    settings = settings_for(links.bootstrap, tmp_path, "ahead", park_ms=1_000)
    stamped = {"key": "k", "value": {"f": 1}, "observed_at": int(time.time() * 1000) + 60_000}
    ensure_topics(settings.kafka, ["eu"], [STATE])
    with running(spark, settings):
        producer = KafkaProducer(bootstrap_servers=links.bootstrap)
        producer.send(topic_name(STATE, "ahead", "eu"), json.dumps(stamped).encode()).get(60)
        producer.close()
        until(lambda: any(row["verdict"] == "parked" for row in rows(settings, "sync_refused")))
        assert rows(settings, "records") == []
        until(lambda: bool(rows(settings, "records")), timeout_s=PATIENCE_S)
        assert int(time.time() * 1000) >= stamped["observed_at"] - 1_000


def test_a_late_region_starts_from_a_snapshot_and_one_that_leaves_is_not_waited_for(
    spark: Any, links: ProxiedBroker, tmp_path: Path
) -> None:
    settings = settings_for(links.bootstrap, tmp_path, "late")
    warehouse, file = settings.warehouse.path, tmp_path / "records.gz"
    with running(spark, settings), ReplicaClient("eu", tmp_path / "eu.db", links.kafka("eu", "late")) as eu:
        assert eu.wait_joined()
        with eu.together():
            for n in range(50):
                eu.put(f"k{n}", Assign("f", n))
        until(lambda: len(table_state(settings)) == 50)
        made = CliRunner().invoke(sync_command, ["--warehouse", warehouse, "--prefix", "late", "--snapshot", str(file)])
        assert made.exit_code == 0, made.output
        eu.put("k0", Assign("f", "later"))

        us = ReplicaClient("us", tmp_path / "us.db", links.kafka("us", "late"), snapshot=file)
        assert us.read("k49") == {"f": 49}, "before it has spoken to anybody"
        with us:
            assert us.wait_joined()
            until(lambda: us.read("k0") == {"f": "later"})
            until(lambda: us.digests() == eu.digests())
            us.put("k49", Assign("f", "us"))
            assert us.leave() and us.lag().fenced
            with pytest.raises(FencedError):
                us.put("k48", Assign("f", "us"))
        until(lambda: eu.read("k49") == {"f": "us"})
        eu.delete("k1")
        until(lambda: "k1" not in table_state(settings))
        assert [(row["region"], row["member"]) for row in rows(settings, "sync_regions")[:2]] == [
            ("eu", True),
            ("us", False),
        ]


def test_a_batch_that_spark_takes_again_changes_nothing(spark: Any, links: ProxiedBroker, tmp_path: Path) -> None:
    settings = settings_for(links.bootstrap, tmp_path, "again")
    clients = [
        ReplicaClient(region, tmp_path / f"{region}.db", links.kafka(region, "again")) for region in ("eu", "us")
    ]
    with ExitStack() as stack:
        eu, us = (stack.enter_context(client) for client in clients)
        with running(spark, settings):
            assert eu.wait_joined() and us.wait_joined()
        for n in range(10):  # the job is down: these wait in the topic and arrive as one batch
            eu.put("k", Assign("f", n), Increment("n", 1))
            us.put("k", Assign("f", -n), Increment("n", 1))
        time.sleep(2)
        with running(spark, settings):
            assert eu.wait_confirmed() and us.wait_confirmed()
            until(lambda: eu.read("k") == us.read("k"))
        before, conflicts = table_state(settings)["k"], rows(settings, "conflicts")
        assert eu.read("k")["n"] == 20 and len(conflicts) == 100  # type: ignore[index]
        commits = sorted(
            (p for p in (tmp_path / "checkpoints" / "replicate" / "commits").iterdir() if p.name.isdigit()),
            key=lambda p: int(p.name),
        )
        commits[-1].unlink()
        for crc in commits[-1].parent.glob(f".{commits[-1].name}.*"):
            crc.unlink()
        with running(spark, settings):
            eu.put("other", Assign("f", 1))
            assert eu.wait_confirmed()
            until(lambda: "other" in table_state(settings))
        assert table_state(settings)["k"] == before
        assert len(rows(settings, "conflicts")) == len(conflicts)


def test_spark_and_the_driver_merge_alike(spark: Any, links: ProxiedBroker, tmp_path: Path) -> None:
    """The same input, once merged on the driver and once in Spark's tasks with Spark's MERGE."""
    settings = {
        how: settings_for(links.bootstrap, tmp_path / how, "alike", merge=how, digest_every_ms=600_000)
        for how in ("driver", "spark")
    }
    producer = KafkaProducer(bootstrap_servers=links.bootstrap)
    from thalweg.streams.broker.admin import ensure_topics

    ensure_topics(settings["driver"].kafka, ["eu", "us"], (STATE, REPLICA, DEADLETTER))
    for round_number in range(2):
        for n in range(300):
            for region in ("eu", "us"):
                value = {
                    "key": f"k{n % 120}",
                    "value": None if n % 37 == 5 else {"f": [region, n], "peak": n, "tags": [f"t{n % 7}"], "hits": 1},
                    "observed_at": 1_700_000_000_000 + 1_000 * round_number + n,
                    "version": n,
                    "policies": {"peak": "max", "tags": "add_wins_set", "hits": "counter"},
                }
                producer.send(topic_name(STATE, "alike", region), json.dumps(value).encode())
        producer.flush()
        for how in ("driver", "spark"):
            with running(spark, settings[how]) as query:
                query.processAllAvailable()
    producer.close()
    states = {how: table_state(settings[how]) for how in settings}
    assert len(states["driver"]) == 120
    assert states["driver"] == states["spark"]
    columns = ("key", "value", "deleted", "vector", "policy", "stamp_ms", "stamp_counter", "stamp_region", "version")
    tables = {how: sorted(tuple(row[c] for c in columns) for row in rows(settings[how], "records")) for how in settings}
    assert tables["driver"] == tables["spark"]
    ids = {how: {row["conflict_id"] for row in rows(settings[how], "conflicts")} for how in settings}
    assert ids["driver"] == ids["spark"] and ids["driver"]
