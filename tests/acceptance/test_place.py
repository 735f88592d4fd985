"""Place, on a real broker, with Spark and Delta: requests become assignments, whatever is sent and whatever dies."""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from tests.acceptance.placing import REGIONS, Setting, until
from thalweg.client.client import Client, OutcomeState, RequestRefusedError
from thalweg.jobs import place
from thalweg.jobs.runtime.job import Stop
from thalweg.streams.contract.topics import REQUESTS, STATUS, topic_name
from thalweg.sync.clock import system_clock
from thalweg.sync.delta.store import AnotherWriterError
from thalweg.sync.ledger.ledger import Ledger

pytestmark = pytest.mark.acceptance

FAR, NEAR = "gcp:us-central1", "aws:eu-west-1"


class Running:
    """The job in this process, on the shared session."""

    def __init__(self, spark: SparkSession, setting: Setting) -> None:
        self.spark, self.setting = spark, setting
        self.start()

    def start(self) -> StreamingQuery:
        self.stopped = Stop()
        self.query = place.start(self.spark, self.setting.settings, system_clock, self.stopped)
        return self.query

    def stop(self) -> None:
        self.query.stop()
        self.stopped.finish()


@pytest.fixture
def setting(broker: str, tmp_path: Path) -> Iterator[Setting]:
    made = Setting(broker, tmp_path)
    yield made
    made.close()


@pytest.fixture
def running(spark: SparkSession, setting: Setting) -> Iterator[Running]:
    job = Running(spark, setting)
    yield job
    job.stop()


@contextmanager
def on_one_node(broker: str, spark: SparkSession, folder: Path, **place_settings: object) -> Iterator[Setting]:
    """A world with one node of eight GPUs in each region, and the job in it."""
    setting = Setting(broker, folder, gpus=8)
    changed = setting.settings.place.model_copy(update=place_settings)
    setting.settings = setting.settings.model_copy(update={"place": changed})
    job = Running(spark, setting)
    try:
        yield setting
    finally:
        job.stop()
        setting.close()


def task(name: str, **more: object) -> dict[str, object]:
    return {"task_id": name, "per_worker": {"gpus": 1}, **more}


def test_a_drained_region_empties_and_stays_so_over_a_restart(setting: Setting, running: Running) -> None:
    setting.request(task("t1"))
    setting.heard(lambda: "t1" in setting.assigned())
    (here,) = setting.assigned()["t1"]
    setting.order(order="drain", region="nowhere", who="ann")
    setting.order(order="drain", region=here["region"], who="ann")
    setting.heard(lambda: len(setting.assigned()["t1"]) == 2 and bool(setting.refused))
    (there,) = [event for event in setting.assigned()["t1"] if event["epoch"] == 3]
    assert there["region"] != here["region"]
    assert "nowhere" in setting.refused[0][0]["reason"] and setting.refused[0][0]["rule"] == "order"
    running.stop()
    running.start()
    setting.request(*(task(f"u{number}") for number in range(4)))
    setting.heard(lambda: {f"u{number}" for number in range(4)} <= setting.assigned().keys())
    assert {event["region"] for name in range(4) for event in setting.assigned()[f"u{name}"]} == {there["region"]}
    (ordered,) = [row for row in setting.ledger() if row["transition"] == "ordered"]
    assert ordered["topic"].endswith(".control") and ordered["ordered"]


def test_a_request_becomes_an_assignment_that_the_ledger_knew_first(setting: Setting, running: Running) -> None:
    setting.request(task("t1", observed_at=1), {"task_id": "plain"})
    setting.heard(lambda: {"t1", "plain"} <= setting.assigned().keys())
    event = setting.assigned()["t1"][0]
    assert (event["region"], event["epoch"], event["nodes"][0]["gpus"]) == (NEAR, 1, 1)
    # It may wait first: a region that has not been heard yet is given nothing.
    rows = [row for row in setting.ledger() if row["task_id"] == "t1" and row["transition"] != "waiting"]
    assert [row["transition"] for row in rows] == ["submitted", "assigned"]
    assert rows[1]["event_id"] == event["event_id"]
    assert rows[1]["compute_usd"] == pytest.approx(2.0)
    setting.heard(lambda: {row["task_id"]: row["state"] for row in setting.table("tasks")}.get("t1") == "assigned")
    until(lambda: len(setting.table("plans")) > 0)
    assert all(plan["bound_usd"] <= plan["objective_usd"] + 1e-9 for plan in setting.table("plans"))


def test_partitions_that_are_added_while_it_runs_are_read_and_nothing_in_them_twice(
    setting: Setting, running: Running
) -> None:
    setting.request(task("before"))
    setting.heard(lambda: "before" in setting.assigned())
    topics = [topic_name(REQUESTS, setting.prefix), topic_name(STATUS, setting.prefix, NEAR)]
    admin = KafkaAdminClient(bootstrap_servers=setting.settings.kafka.bootstrap_servers)
    try:
        known = {found["name"]: len(found["partitions"]) for found in admin.describe_topics(topics)}
        admin.create_partitions({name: count + 3 for name, count in known.items()})
        grown = range(known[topics[0]] + 3)
        more = {name: count + 3 for name, count in known.items()}
        setting.heard(lambda: {one["name"]: len(one["partitions"]) for one in admin.describe_topics(topics)} == more)
    finally:
        admin.close()
    names = {f"in-{partition}" for partition in grown}
    producer = KafkaProducer(bootstrap_servers=setting.settings.kafka.bootstrap_servers)  # which knows of them at once
    for partition in grown:
        producer.send(topics[0], json.dumps(task(f"in-{partition}")).encode(), partition=partition)
    setting.heard(lambda: names <= setting.assigned().keys())

    ended = {"type": "succeeded", "region": NEAR, "task_id": "before", "epoch": 1}
    producer.send(topics[1], json.dumps(ended).encode(), partition=more[topics[1]] - 1)
    producer.close()
    setting.heard(lambda: any(row["transition"] == "succeeded" for row in setting.ledger()))

    running.stop()
    running.start()
    setting.request(task("after"))
    setting.heard(lambda: "after" in setting.assigned())
    assert {name: len(events) for name, events in setting.assigned().items()} == dict.fromkeys(
        {"before", "after", *names}, 1
    )


def test_bad_input_is_refused_with_reason_and_position_and_the_stream_goes_on(
    setting: Setting, running: Running
) -> None:
    bad: dict[bytes, str] = {
        b"not json": "malformed",
        b'{"task_id": 7}': "task_id",
        b'{"task_id": "a", "op": "explode"}': "explode",
        b'{"task_id": "a", "per_worker": {"gpus": -1}}': "gpus",
        b'{"task_id": "a", "expected_s": NaN}': "malformed",
        b'{"task_id": "a", "per_worker": {"gpus": 1000000000}}': "gpus",
        b'{"task_id": "a", "workers": 10000, "per_worker": {"gpus": 1024}}': "max_task_gpus",
        b'{"task_id": "a", "per_worker": {"gpus": 1, "gpu_milli": 500}}': "one of the two",
        b'{"task_id": "a", "max_rtt_ms": 5}': "origin_region",
        b'{"task_id": "nobody", "op": "cancel"}': "no such task",
        b"[]": "object",
        b"\xff\xfe": "",
        b"": "",
    }
    setting.request(*bad, task("good"), task("good"), task("good", priority=900))
    setting.heard(lambda: "good" in setting.assigned() and len(setting.refused) >= len(bad) + 1)
    reasons = {value: headers for headers, value in setting.refused}
    for value, words in bad.items():
        assert words in reasons[value]["reason"], (value, reasons[value]["reason"])
        assert reasons[value]["topic"] == f"{setting.prefix}.requests"
        assert int(reasons[value]["offset"]) >= 0
    assert sum("other content" in headers["reason"] for headers, _ in setting.refused) == 1
    assert len(setting.assigned()["good"]) == 1
    setting.report(NEAR, type="dancing")
    setting.producer.send(f"{setting.prefix}.status.aws.eu-west-1", b'{"type": "heartbeat", "region": "elsewhere"}')
    setting.request(task("after"))
    setting.heard(lambda: "after" in setting.assigned() and len(setting.refused) >= len(bad) + 3)
    assert any("a region writes its own topic" in headers["reason"] for headers, _ in setting.refused)


def test_who_asks_is_told_what_became_of_it(setting: Setting, running: Running) -> None:
    with Client(kafka=setting.settings.kafka) as client:
        client.submit(task("t"))
        assert client.answered(["t"], timeout_s=60)["t"].answer == "taken"
        client.submit(task("t"))
        assert client.answered(["t"], timeout_s=60)["t"].answer == "known"
        client.submit(task("t", priority=7))
        refused = client.answered(["t"], timeout_s=60)["t"]
        assert (refused.answer, "other content" in refused.reason) == ("refused", True)
        client.cancel("never-existed")
        with pytest.raises(RequestRefusedError, match="no such task was submitted"):
            client.wait("never-existed", timeout_s=60)
    with Client(kafka=setting.settings.kafka) as client:
        client.submit(task("waits", per_worker={"gpus": 512}))
        client.cancel("waits")
        assert client.wait("waits", timeout_s=60).state is OutcomeState.CANCELLED
    with Client(kafka=setting.settings.kafka) as client:
        client.submit(task("waits", per_worker={"gpus": 512}))
        assert client.wait("waits", timeout_s=60).state is OutcomeState.CANCELLED, "it had ended before"


def test_a_region_that_falls_silent_loses_its_tasks_to_another_and_is_corrected_when_it_returns(
    setting: Setting, running: Running
) -> None:
    setting.request(task("t"))
    setting.heard(lambda: "t" in setting.assigned())
    assert setting.assigned()["t"][0]["region"] == NEAR
    setting.heard(lambda: len(setting.assigned()["t"]) == 2, beating=(FAR,))
    moved = setting.assigned()["t"][1]
    assert (moved["region"], moved["epoch"]) == (FAR, 2)
    setting.report(NEAR, type="inventory", tasks=[["t", 1]])
    setting.heard(lambda: any(e["type"] == "revoke" and e["region"] == NEAR for e in setting.events))
    revoke = next(e for e in setting.events if e["type"] == "revoke")
    assert revoke["epoch"] > 2


def test_status_frees_capacity_and_failures_are_tried_again(broker: str, spark: SparkSession, tmp_path: Path) -> None:
    with on_one_node(broker, spark, tmp_path) as setting:
        setting.request({"task_id": "big", "workers": 2, "per_worker": {"gpus": 4}, "allowed_regions": [NEAR]})
        setting.request(task("next", allowed_regions=[NEAR]))
        setting.heard(lambda: "big" in setting.assigned())
        until(lambda: {row["task_id"]: row["state"] for row in setting.table("tasks")}.get("next") == "waiting")
        setting.report(NEAR, type="succeeded", task_id="big", epoch=1)
        setting.heard(lambda: "next" in setting.assigned())
        for attempt in (1, 2, 3):
            setting.report(NEAR, type="failed", task_id="next", epoch=attempt, detail="exit code 1")
            if attempt < 3:
                wanted = attempt + 1
                setting.heard(lambda: len(setting.assigned()["next"]) == wanted)  # noqa: B023
        until(lambda: {row["task_id"]: row["state"] for row in setting.table("tasks")}.get("next") == "failed")
        states = {row["task_id"]: row["state"] for row in setting.table("tasks")}
        assert states["big"] == "succeeded"


def test_the_important_task_takes_the_room_of_another_which_comes_back_when_there_is_room(
    broker: str, spark: SparkSession, tmp_path: Path
) -> None:
    with on_one_node(broker, spark, tmp_path) as setting:
        setting.request({"task_id": "low", "priority": 10, "per_worker": {"gpus": 8}, "allowed_regions": [NEAR]})
        setting.heard(lambda: "low" in setting.assigned())
        setting.request({"task_id": "high", "priority": 900, "per_worker": {"gpus": 8}, "allowed_regions": [NEAR]})
        setting.heard(lambda: "high" in setting.assigned())
        order = [(event["type"], event["task_id"]) for event in setting.events]
        assert order.index(("revoke", "low")) < order.index(("assign", "high")), "room is made before it is given"
        setting.report(NEAR, type="succeeded", task_id="high", epoch=1)
        setting.heard(lambda: len(setting.assigned()["low"]) == 2)
        revoked = next(e for e in setting.events if (e["type"], e["task_id"]) == ("revoke", "low"))
        again = setting.assigned()["low"][1]
        assert 1 < revoked["epoch"] < again["epoch"], "the fence lets neither stand behind the other"
        # `plans` is written beside the stream: it follows the events.
        until(lambda: sum(plan["revoked"] for plan in setting.table("plans")) == 1)


def test_a_elastic_task_starts_small_and_grows_into_room_that_becomes_free(
    broker: str, spark: SparkSession, tmp_path: Path
) -> None:
    with on_one_node(broker, spark, tmp_path, resize_every_ms=500) as setting:
        setting.request({"task_id": "rigid", "per_worker": {"gpus": 6}, "allowed_regions": [NEAR]})
        setting.heard(lambda: "rigid" in setting.assigned())
        elastic = {"task_id": "elastic", "workers": 8, "min_workers": 1, "per_worker": {"gpus": 1}}
        setting.request(elastic | {"allowed_regions": [NEAR]})
        setting.heard(lambda: "elastic" in setting.assigned())
        assert workers_of(setting.assigned()["elastic"][0]) == 2
        setting.report(NEAR, type="succeeded", task_id="rigid", epoch=1)
        setting.heard(lambda: workers_of(setting.assigned()["elastic"][-1]) == 8)
        epochs = [event["epoch"] for event in setting.assigned()["elastic"]]
        assert epochs == sorted(set(epochs)), "each size is an assignment of its own, with the next epoch"


def workers_of(event: dict[str, object]) -> int:
    """Workers that an assignment gives a task, over its nodes."""
    nodes = event["nodes"]
    assert isinstance(nodes, list)
    return sum(node.get("workers", 1) for node in nodes)


def forget(log: Path, first: int) -> None:
    """Remove a checkpoint log's entries from a batch on, with their checksums."""
    for file in log.iterdir():
        name = file.name.strip(".").split(".")[0]
        if name.isdigit() and int(name) >= first:
            file.unlink()


def test_a_batch_whose_end_was_not_recorded_is_published_again_and_not_decided_again(
    setting: Setting, running: Running
) -> None:
    setting.request(*[task(f"t{index}") for index in range(20)])
    setting.heard(lambda: len(setting.assigned()) == 20)
    running.stop()
    # As after a kill between publishing and Spark's own commit: the ledger's last batch is the newest, and open.
    last_batch = max(row["batch_id"] for row in setting.ledger())
    forget(setting.folder / "checkpoints" / "place" / "commits", last_batch)
    forget(setting.folder / "checkpoints" / "place" / "offsets", last_batch + 1)
    before, sent = len(setting.ledger()), len(setting.events)
    query = running.start()
    setting.heard(lambda: len(setting.events) > sent or not query.isActive)
    assert query.isActive, query.exception()
    setting.request(task("after"))
    setting.heard(lambda: "after" in setting.assigned())
    rows = setting.ledger()
    assert all(count == 1 for count in Counter(row["event_id"] for row in rows if row["event_id"]).values())
    assert len(rows) == before + 2
    assert all(len(events) == 1 for events in setting.assigned().values()), "a repetition carries the same event id"


def test_killed_at_any_moment_it_loses_nothing_and_assigns_nothing_twice(setting: Setting) -> None:
    chance = random.Random(7)
    process = setting.process()
    sent = 0
    try:
        for part in range(3):
            setting.request(*[task(f"whole-{part}-{index}") for index in range(20)])
            first = len(setting.assigned())
            setting.heard(lambda: len(setting.assigned()) > first)  # noqa: B023
            setting.request(*[task(f"share-{part}-{index}", per_worker={"gpu_milli": 20}) for index in range(300)])
            sent += 320
            time.sleep(chance.random() * 1.5)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process = setting.process()
        setting.heard(lambda: len(setting.assigned()) == sent)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    rows = setting.ledger()
    # After a kill no region is open before it is heard again, so tasks may have waited in between.
    made = Counter(row["transition"] for row in rows if row["transition"] != "waiting")
    assert made == {"submitted": sent, "assigned": sent}
    assert all(len(events) == 1 for events in setting.assigned().values())
    decided = {row["event_id"] for row in rows if row["event_id"]}
    assert {event["event_id"] for event in setting.events} == decided


def test_a_second_driver_is_refused_while_the_first_lives(setting: Setting, running: Running) -> None:
    second = setting.process()
    assert second.wait(280) == 1
    log = max(setting.folder.glob("place-*.log")).read_text()
    assert "already drives it" in log
    assert "Traceback" not in log


def test_a_driver_that_was_overtaken_stops_at_its_next_commit(setting: Setting, running: Running) -> None:
    Ledger.claim(setting.settings.warehouse.path)  # as a driver on another machine would, where no lock reaches
    setting.request(task("t"))
    setting.beat()
    until(lambda: not running.query.isActive)
    assert AnotherWriterError.__name__ in str(running.query.exception())
    setting.listen()
    assert setting.assigned() == {}
    assert REGIONS
