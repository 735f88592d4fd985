"""A query's start looks whose its checkpoint, table and topics are, and says so before it writes; so does its run."""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from thalweg.conf.settings import Settings, SparkSettings, WarehouseSettings
from thalweg.jobs.runtime.job import Flow
from thalweg.jobs.runtime.origin import OriginWatch, read_warehouse_origin
from thalweg.streams.broker.admin import TopicsNow
from thalweg.streams.broker.origin import EARLIEST, MismatchKind, Place
from thalweg.streams.broker.query_checkpoint import QueryCheckpoint
from thalweg.sync.delta.contracts import PLANS
from thalweg.sync.delta.store import append, open_or_create

FLOW = Flow(name="place")


class Here:
    """A broker, a warehouse and a checkpoint, to be changed one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(
            warehouse=WarehouseSettings(path=str(folder / "warehouse")),
            spark=SparkSettings(checkpoints=str(folder / "checkpoints")),
        )
        self.checkpoint = QueryCheckpoint(folder / "checkpoints" / "place")
        self.topics = TopicsNow(
            cluster_id="c1", topic_ids={"requests": "r1", "status": "s1"}, partitions={"requests": 1, "status": 1}
        )
        self.starts: dict[Place, int] = {}
        self.ends: dict[Place, int] = {}
        self.known: Mapping[Place, int] = {}

    def watch(self) -> OriginWatch:
        return OriginWatch(
            self.settings,
            FLOW,
            PLANS,
            ".*",
            known=lambda: self.known,
            look=lambda: self.topics,
            bounds=lambda _: (self.starts, self.ends),
        )

    def settled(self) -> tuple[OriginWatch, list[MismatchKind]]:
        watch = self.watch()
        return watch, [mismatch.kind for mismatch in watch.settle()]

    def run_batch(self, number: int, requests: int, status: int, *, done: bool = True) -> None:
        folder = Path(self.checkpoint.place)
        for part in ("offsets", "commits"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        ends = {"requests": {"0": requests}, "status": {"0": status}}
        (folder / "offsets" / str(number)).write_text("v1\n{}\n" + json.dumps(ends))
        if done:
            (folder / "commits" / str(number)).write_text("v1\n{}")
        if not (folder / "metadata").exists():
            (folder / "metadata").write_text('{"id":"q"}')

    def commit(self) -> None:
        append(open_or_create(PLANS, self.settings.warehouse.path), PLANS.schema.empty_table())

    def topic_anew(self, name: str, topic_id: str) -> None:
        self.topics = replace(self.topics, topic_ids={**self.topics.topic_ids, name: topic_id})


class FakeQuery:
    def __init__(self) -> None:
        self.isActive = True

    def stop(self) -> None:
        self.isActive = False


def running(here: Here) -> tuple[OriginWatch, Any]:
    """A query that has done a batch and been looked at."""
    watch, _ = here.settled()
    query: Any = FakeQuery()
    here.run_batch(0, 1_000, 50)
    here.commit()
    watch.step(query)
    return watch, query


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def test_a_first_start_remembers_and_a_second_finds_nothing(here: Here) -> None:
    running(here)
    origin = here.checkpoint.origin()
    assert origin is not None
    assert origin.warehouse_id == str(DeltaTable(f"{here.settings.warehouse.path}/plans").metadata().id)
    assert (origin.cluster_id, origin.topic_ids, origin.table_version) == ("c1", {"requests": "r1", "status": "s1"}, 1)
    beside = read_warehouse_origin(here.settings.warehouse.path, "place")
    assert beside is not None
    assert beside.topic_ids == origin.topic_ids
    watch, kinds = here.settled()
    assert kinds == []
    assert not watch.begin_at
    assert not watch.known_until


def test_a_topic_made_anew_while_the_query_runs_ends_it_and_is_read_from_its_beginning(here: Here) -> None:
    watch, query = running(here)
    here.topic_anew("requests", "r2")
    watch.step(query)
    assert not query.isActive
    after, kinds = here.settled()
    assert kinds == [MismatchKind.TOPIC_ANEW]
    assert after.begin_at == {("requests", 0): EARLIEST, ("status", 0): 50}
    assert here.checkpoint.standing().batch is None
    assert (Path(here.checkpoint.place).parent / "set-aside" / "place-1" / "offsets" / "0").exists()
    _, kinds = here.settled()
    assert kinds == []


def test_a_new_topic_is_no_reason_to_stop(here: Here) -> None:
    watch, query = running(here)
    here.topic_anew("status.new", "n1")
    watch.step(query)
    assert query.isActive
    here.topic_anew("status.new", "n2")
    watch.step(query)
    assert not query.isActive


def test_where_a_query_was_to_begin_outlives_a_crash_before_its_first_batch(here: Here) -> None:
    running(here)
    here.topic_anew("requests", "r2")
    here.settled()
    again, kinds = here.settled()
    assert kinds == []
    assert again.begin_at == {("requests", 0): EARLIEST, ("status", 0): 50}


def test_a_warehouse_restored_alone_is_recognised_and_what_it_lacks_is_read_again(here: Here, caplog: Any) -> None:
    watch, query = running(here)
    log = Path(here.settings.warehouse.path) / "plans" / "_delta_log"
    here.commit()
    watch.step(query)
    (log / f"{2:020}.json").unlink()
    here.known = {("requests", 0): 900}
    with caplog.at_level(logging.WARNING):
        after, kinds = here.settled()
    assert kinds == [MismatchKind.TABLE_OLDER]
    assert "the table is older than the checkpoint: it is at version 1, the checkpoint has seen 2" in caplog.text
    assert after.begin_at == {("requests", 0): EARLIEST, ("status", 0): EARLIEST}
    assert after.known_until == here.known


def test_a_checkpoint_restored_alone_goes_on_under_a_new_id(here: Here) -> None:
    from deltalake import Transaction

    running(here)
    append(open_or_create(PLANS, here.settings.warehouse.path), PLANS.schema.empty_table(), [Transaction("q", 4)])
    after, kinds = here.settled()
    assert kinds == [MismatchKind.TABLE_NEWER]
    assert after.begin_at == {("requests", 0): 1_000, ("status", 0): 50}


def test_another_cluster_is_told_before_anything_is_written(here: Here, caplog: Any) -> None:
    running(here)
    here.topics = replace(here.topics, cluster_id="c2")
    with caplog.at_level(logging.WARNING):
        after, kinds = here.settled()
    assert kinds == [MismatchKind.OTHER_CLUSTER]
    assert "was made with Kafka cluster c1, here is c2" in caplog.text
    assert "the warehouse's tables were built from Kafka cluster c1" in caplog.text
    assert set(after.begin_at.values()) == {EARLIEST}


def test_another_warehouse_under_the_same_checkpoint_is_recognised(here: Here) -> None:
    running(here)
    (here.folder / "warehouse").rename(here.folder / "elsewhere")
    _, kinds = here.settled()
    assert kinds == [MismatchKind.OTHER_WAREHOUSE]


def test_a_checkpoint_moved_away_is_a_query_that_must_recognise(here: Here) -> None:
    running(here)
    Path(here.checkpoint.place).rename(here.folder / "moved")
    here.known = {("requests", 0): 1_000}
    after, kinds = here.settled()
    assert kinds == []
    assert after.known_until == here.known


def test_what_expired_before_it_was_read_is_said_and_counted_once(here: Here, caplog: Any) -> None:
    running(here)
    here.starts = {("requests", 0): 1_200}
    with caplog.at_level(logging.WARNING):
        watch, kinds = here.settled()
        assert kinds == [MismatchKind.RECORDS_EXPIRED]
        assert "offsets 1000 to 1199" in caplog.text
        caplog.clear()
        watch.unread({("requests", 0): (1_000, 1_300)}, {("requests", 0): 1_200})
        assert caplog.text == ""
        here.starts = {("requests", 0): 1_350}
        watch.unread({("requests", 0): (1_300, 1_400)}, {("requests", 0): 1_350})
        assert "offsets 1300 to 1349" in caplog.text
        caplog.clear()
        watch.unread({("status", 0): (50, 60)}, {("status", 0): 52})  # a transaction's markers
        assert caplog.text == ""
