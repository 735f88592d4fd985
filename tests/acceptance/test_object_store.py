"""A warehouse on S3: of two writers one loses, a lost answer is one's own commit, and the whole job places."""

import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Transaction
from pyarrow.fs import FileSystem
from pyspark.sql import SparkSession

from tests.acceptance.object_store import LossyRelay, relayed_store
from tests.acceptance.placing import Setting
from tests.table_rows import random_rows
from thalweg.benchmarks.clusters import requests
from thalweg.jobs import place
from thalweg.jobs.runtime.job import Stop
from thalweg.streams.broker.origin import CheckpointOrigin, Standing
from thalweg.streams.broker.query_checkpoint import QueryCheckpoint
from thalweg.streams.broker.range_reader import batch_ranges
from thalweg.streams.broker.stored_checkpoint import files_at
from thalweg.sync.clock import system_clock
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.commits import is_taken
from thalweg.sync.delta.contracts import PLANS
from thalweg.sync.delta.store import AnotherWriterError, TableRefusedError
from thalweg.sync.ledger.ledger import Ledger

pytestmark = pytest.mark.acceptance

ROUNDS = 10
ORIGIN = CheckpointOrigin(
    warehouse_id="w", cluster_id="c", topic_ids={"requests": "r"}, table_version=3, begin_at={}, known_until={}
)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[str, LossyRelay]]:
    with relayed_store(monkeypatch, tmp_path) as found:
        yield found


class Asked:
    """Tells what the server was asked, by the lines of its log."""

    def __init__(self, log: Path) -> None:
        self._log, self._read = log, 0

    def since(self) -> list[requests.StoreRequest]:
        """Give the requests since the last call."""
        text = self._log.read_text(encoding="utf-8")
        new, self._read = text[self._read :], len(text)
        return list(requests.read(new.splitlines()))


def kinds(asked: Sequence[requests.StoreRequest]) -> dict[str, int]:
    return dict(Counter(request.kind for request in asked))


def row(plan_id: str) -> pa.Table:
    rows = random_rows(PLANS, 1, random.Random(0))
    place = rows.column_names.index("plan_id")
    return rows.set_column(place, rows.field(place), pa.array([plan_id], rows.field(place).type))


def test_of_two_that_commit_the_same_version_at_the_same_time_one_loses(store: tuple[str, LossyRelay]) -> None:
    warehouse, _ = store
    for number in range(ROUNDS):
        ready = threading.Barrier(2)

        def wins(writer: Appender, name: str, ready: threading.Barrier = ready) -> bool:
            files = writer.write(row(name), 0)
            ready.wait(60)
            try:
                writer.commit(files, Transaction(name, 1))
            except AnotherWriterError:
                return False
            return True

        names = [f"{number}-{n}" for n in range(2)]
        with ThreadPoolExecutor(max_workers=2) as both:
            won = list(both.map(wins, [Appender(PLANS, warehouse) for _ in names], names))
        assert sorted(won) == [False, True]
        kept = DeltaTable(f"{warehouse}/{PLANS.name}").to_pyarrow_table(columns=["plan_id"])["plan_id"].to_pylist()
        assert len(kept) == number + 1 and names[won.index(True)] in kept


def test_a_commit_whose_answer_was_lost_is_known_as_ones_own(
    store: tuple[str, LossyRelay], monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, relay = store
    monkeypatch.setenv("AWS_ENDPOINT_URL", relay.address)
    writer = Appender(PLANS, warehouse)
    for number in range(3):
        files = writer.write(row(f"plan-{number}"), 0)
        relay.lose = {f"_delta_log/{writer.version + 1:020d}.json"}
        writer.commit(files, Transaction("test", number))
        assert not relay.lose
    assert len(relay.lost) == 3
    table = DeltaTable(f"{warehouse}/{PLANS.name}")
    assert sorted(table.to_pyarrow_table(columns=["plan_id"])["plan_id"].to_pylist()) == ["plan-0", "plan-1", "plan-2"]
    assert table.version() == writer.version


def test_what_a_writer_asks_for_does_not_grow_with_the_log(store: tuple[str, LossyRelay], tmp_path: Path) -> None:
    warehouse, _ = store
    asked = Asked(tmp_path / "s3-server.log")
    writer = Appender(PLANS, warehouse)
    writer.commit(writer.write(row("first"), 0), Transaction("test", 0))
    commits = []
    for number in range(1, 12):
        asked.since()
        files = writer.write(row(f"plan-{number}"), 0)
        assert kinds(asked.since()) == {"put": 1}, "a file is one object that is put, and nothing else"
        writer.commit(files, Transaction("test", number))
        commits.append(asked.since())
        writer.check()
        assert kinds(asked.since()) == {"head 404": 1}
        if number == 6:
            DeltaTable(writer.uri).create_checkpoint()
    # What is the newest, three times; `deltalake` gets an entry twice, behind its commit and again as it goes along.
    expected = {"list": 3, "put": 1, "get": 4}
    assert all(kinds(asked) == expected for asked in [*commits[1:6], *commits[7:]]), commits
    anew = {request.key.rpartition("/")[2] for request in commits[6] if request.kind == "get"}
    entries = {f"{version:020d}.json" for version in range(9)}
    assert anew & entries <= {f"{version:020d}.json" for version in (7, 8)}, "the checkpoint stands for those before it"
    table = DeltaTable(writer.uri)
    assert table.version() == writer.version == 12
    assert [file["size_bytes"] for file in pa.table(table.get_add_actions()).to_pylist()] == [
        filesystem_size(path) for path in table.file_uris()
    ]


def filesystem_size(uri: str) -> int:
    filesystem, path = FileSystem.from_uri(uri)
    return int(filesystem.get_file_info(path).size)


def test_what_others_did_to_a_table_is_noticed_by_a_writer_that_keeps_it_open(store: tuple[str, LossyRelay]) -> None:
    warehouse, _ = store
    writer = Appender(PLANS, warehouse)
    for number in range(3):
        writer.commit(writer.write(row(f"plan-{number}"), 0), Transaction("test", number))
    assert not is_taken(writer.uri, writer.version + 1)
    DeltaTable(writer.uri).alter.set_table_description("somebody's")  # housekeeping: it goes on behind it
    assert is_taken(writer.uri, writer.version + 1)
    writer.commit(writer.write(row("behind"), 0), Transaction("test", 3))
    DeltaTable(writer.uri).alter.add_constraint({"named": "plan_id <> 'nobody'"})
    with pytest.raises(TableRefusedError, match=r"checkConstraints.*nothing was written"):
        writer.commit(writer.write(row("refused"), 0), Transaction("test", 4))
    kept = DeltaTable(writer.uri).to_pyarrow_table(columns=["plan_id"])["plan_id"].to_pylist()
    assert sorted(kept) == ["behind", "plan-0", "plan-1", "plan-2"]


def test_a_checkpoint_there_is_looked_into_marked_and_set_aside(store: tuple[str, LossyRelay]) -> None:
    place = f"{store[0]}/checkpoints/place".replace("s3://", "s3a://")
    files = files_at(place)
    checkpoint = QueryCheckpoint(files)
    assert checkpoint.standing() == Standing() and checkpoint.origin() is None
    with pytest.raises(FileNotFoundError):  # a mark would stand for a checkpoint that is not there
        checkpoint.write_origin(ORIGIN)
    for number in range(2):
        checkpoint.begin()
        checkpoint.write_origin(ORIGIN)
        assert checkpoint.origin() == ORIGIN
        for batch, end in ((4, 10), (5, 12)):
            files.replace(f"offsets/{batch}", f'v1\n{{}}\n{{"requests": {{"0": {end}}}}}')
        files.replace("commits/4", "v1\n{}")
        files.replace("metadata", '{"id":"q"}')
        assert checkpoint.standing() == Standing(
            query_id="q", batch=5, planned={("requests", 0): 12}, done={("requests", 0): 10}
        )
        assert batch_ranges(place, 5) == {("requests", 0): (10, 12)}
        assert batch_ranges(place, 4) is None
        aside = checkpoint.set_aside()
        assert aside == f"{store[0]}/checkpoints/set-aside/place-{number + 1}".replace("s3://", "s3a://")
        assert checkpoint.standing() == Standing() and checkpoint.origin() is None
        assert (
            QueryCheckpoint(files_at(aside)).standing().batch == 5
            and QueryCheckpoint(files_at(aside)).origin() == ORIGIN
        )


def test_the_whole_job_places_starts_again_and_is_fenced(
    broker: str, spark: SparkSession, store: tuple[str, LossyRelay], tmp_path: Path
) -> None:
    setting = Setting(broker, tmp_path, warehouse=f"{store[0]}/thalweg")
    stop = Stop()
    query = place.start(spark, setting.settings, system_clock, stop)
    try:
        setting.request({"task_id": "one", "per_worker": {"gpus": 1}})
        setting.heard(lambda: "one" in setting.assigned())
        query.stop()
        stop.finish()

        stop = Stop()
        query = place.start(spark, setting.settings, system_clock, stop)
        setting.request({"task_id": "two", "per_worker": {"gpus": 1}})
        setting.heard(lambda: "two" in setting.assigned())
        assert [len(events) for events in setting.assigned().values()] == [1, 1]

        Ledger.claim(setting.settings.warehouse.path)  # another driver takes over
        setting.request({"task_id": "three", "per_worker": {"gpus": 1}})
        setting.heard(lambda: not query.isActive)
        assert "another writer" in str(query.exception())
        assert "three" not in setting.assigned()
    finally:
        query.stop()
        stop.finish()
        setting.close()
