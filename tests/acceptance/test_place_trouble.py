"""Place in trouble that is not its own: the broker away, the disk full. Nothing is lost, nothing is decided twice."""

import contextlib
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.acceptance.placing import REGIONS, Setting, until
from thalweg.bootstrap.jars import ensure_jars
from thalweg.conf.environment import find_java
from thalweg.conf.settings import Settings
from thalweg.jobs import place
from thalweg.jobs.runtime.health import FAILURES
from thalweg.jobs.runtime.job import Stop
from thalweg.stack.broker import Broker
from thalweg.streams.broker.admin import delete_topic, existing_topics
from thalweg.streams.contract.topics import ANSWERS, ASSIGNMENTS, REQUESTS, RESULTS, TopicContract, topic_name
from thalweg.sync.clock import system_clock

pytestmark = pytest.mark.acceptance


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    ensure_jars(find_java())
    with Broker(tmp_path / "broker") as running:
        yield running


def tasks(name: str, count: int) -> list[dict[str, object]]:
    return [{"task_id": f"{name}-{index}", "per_worker": {"gpus": 1}} for index in range(count)]


def decided_once(setting: Setting, sent: int) -> None:
    """Every task is in the ledger once, and every event on the topics is one of the ledger's."""
    rows = setting.ledger()
    # "waiting" says only that a region was not heard of in time.
    transitions = Counter(row["transition"] for row in rows if row["transition"] != "waiting")
    assert transitions == {"submitted": sent, "assigned": sent}
    assert all(len(events) == 1 for events in setting.assigned().values())
    assert {event["event_id"] for event in setting.events} == {row["event_id"] for row in rows if row["event_id"]}


def test_a_broker_that_is_down_at_the_start_or_goes_away_is_waited_for(
    own_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(own_broker.bootstrap, tmp_path)
    monkeypatch.setenv("THALWEG_KAFKA__REQUEST_TIMEOUT_MS", "3000")
    setting.request(*tasks("before", 5))
    own_broker.stop()
    process = setting.process()

    def said(words: str) -> bool:
        assert process.poll() is None, "it ended"
        return any(words in log.read_text(errors="replace") for log in setting.folder.glob("place-*.log"))

    try:
        until(lambda: said("waiting for the broker") and said("no Kafka broker answers"))
        own_broker.start()
        setting.heard(lambda: len(setting.assigned()) == 5)

        own_broker.kill()
        until(lambda: said("place-heartbeat failed"))
        own_broker.start()
        setting.request(*tasks("after", 5))
        setting.heard(lambda: len(setting.assigned()) == 10)
        decided_once(setting, 10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        setting.close()


class HostedQuery:
    """The job's query in a process that starts it again when it ends, as `jobs.local` does."""

    def __init__(self, spark: SparkSession, settings: Settings) -> None:
        self.spark, self.settings, self.starts = spark, settings, 0
        self._start()

    def _start(self) -> None:
        self.starts += 1
        self._stop = Stop()
        self._query = place.start(self.spark, self.settings, system_clock, self._stop)

    def look(self) -> None:
        if not self._query.isActive:
            self.close()
            self._start()

    def close(self) -> None:
        self._stop.ask()
        self._query.stop()
        self._stop.finish()


def test_a_topic_that_somebody_deletes_stops_nobody(broker: str, spark: SparkSession, tmp_path: Path) -> None:
    setting = Setting(broker, tmp_path)
    kafka, prefix = setting.settings.kafka, setting.prefix
    query = HostedQuery(spark, setting.settings)

    def delete(contract: TopicContract, region: str | None = None) -> None:
        delete_topic(kafka, topic_name(contract, prefix, region))
        until(lambda: topic_name(contract, prefix, region) not in existing_topics(kafka))

    def placed(task_id: str, **wants: object) -> None:
        setting.request({"task_id": task_id, "per_worker": {"gpus": 1}, **wants})

        def is_assigned() -> bool:
            query.look()
            return any(row["task_id"] == task_id for row in setting.ledger() if row["transition"] == "assigned")

        setting.heard(is_assigned)

    try:
        placed("first")
        setting.listen()
        delete(RESULTS)
        delete(ANSWERS)
        setting.request({"task_id": "first", "op": "cancel"}, *tasks("more", 5))
        setting.heard(lambda: len(setting.assigned()) == 6)
        until(lambda: {topic_name(RESULTS, prefix), topic_name(ANSWERS, prefix)} <= existing_topics(kafka).keys())

        delete(ASSIGNMENTS, REGIONS[0])
        placed("there", allowed_regions=[REGIONS[0]])
        placed("elsewhere", allowed_regions=[REGIONS[1]])
        assert topic_name(ASSIGNMENTS, prefix, REGIONS[0]) in existing_topics(kafka)
        assert query.starts == 1  # who only writes to a topic goes on

        # Who reads it may end within the moment in which it is not there, and begins anew at the new one.
        delete_topic(kafka, topic_name(REQUESTS, prefix))

        def is_made_again() -> bool:
            query.look()
            return topic_name(REQUESTS, prefix) in existing_topics(kafka)

        until(is_made_again)
        placed("again")
        assert query.starts <= FAILURES  # no crash loop
    finally:
        query.close()
        setting.close()


def test_a_full_disk_holds_the_batch_and_tells_no_region_what_the_ledger_does_not_know(
    broker: str, spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = tmp_path / "warehouse"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], check=False, capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small disk is not permitted here: {mounted.stderr.strip()}")
    setting = Setting(broker, tmp_path)
    stop = Stop()
    try:
        query = place.start(spark, setting.settings, system_clock, stop)
        setting.request(*tasks("before", 1))
        setting.heard(lambda: len(setting.assigned()) == 1)
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        setting.request(*tasks("meanwhile", 20))
        setting.heard(lambda: any("the ledger cannot be written" in text for text in caplog.messages))
        time.sleep(2)  # in which an event that ran ahead of the ledger would arrive
        setting.listen()
        assert len(setting.assigned()) == 1
        assert query.isActive

        (disk / "filler").unlink()
        setting.heard(lambda: len(setting.assigned()) == 21)
        decided_once(setting, 21)
        until(lambda: len(setting.table("tasks")) == 21)
        stop.ask()
        query.stop()
        stop.finish()
    finally:
        stop.ask()
        setting.close()
        subprocess.run(["umount", "-l", str(disk)], check=True)
