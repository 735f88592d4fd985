"""The appender: each transaction once, exactly the next version, files of one writer only."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Transaction, write_deltalake

from tests.unit.sync.tables.test_latest import samples
from thalweg.sync.delta import compaction
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.compaction import files_of, groups_to_merge, rewrite
from thalweg.sync.delta.contracts import PLANS, TELEMETRY
from thalweg.sync.delta.store import AnotherWriterError, open_or_create
from thalweg.sync.delta.upkeep import Upkeep, expired

DAY_MS = 86_400_000


def rows(*nodes: str, received_ms: int = 1_700_000_000_000) -> pa.Table:
    table = samples(*({"node_id": node, "stamp_ms": 1} for node in nodes))
    moments = pa.array([received_ms * 1000] * len(nodes), pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    columns = {
        "received_at": moments,
        "observed_at": moments,
        "day": moments.cast(pa.date32()),
        "topic_partition": pa.array([0] * len(nodes), pa.int32()),
        "topic_offset": pa.array(range(len(nodes)), pa.int64()),
    }
    for name, column in columns.items():
        table = table.set_column(table.schema.get_field_index(name), TELEMETRY.schema.field(name), column)
    return table


def put(appender: Appender, *nodes: str, received_ms: int = 1_700_000_000_000) -> None:
    appender.commit(appender.write(rows(*nodes, received_ms=received_ms), received_ms))


def node_ids(folder: Path) -> list[str]:
    found: list[str] = DeltaTable(str(folder / "telemetry")).to_pyarrow_table()["node_id"].to_pylist()
    return sorted(found)


@pytest.fixture
def appender(tmp_path: Path) -> Appender:
    return Appender(TELEMETRY, str(tmp_path))


def test_rows_appear_with_their_partition_and_can_be_filtered(appender: Appender, tmp_path: Path) -> None:
    put(appender, "a", "b")
    put(appender, "c", received_ms=1_700_000_000_000 + DAY_MS)

    assert node_ids(tmp_path) == ["a", "b", "c"]
    table = DeltaTable(appender.uri)
    day = table.to_pyarrow_table(partitions=[("day", "=", "2023-11-15")])
    assert day["node_id"].to_pylist() == ["c"]
    assert table.count() == 3
    assert table.version() == appender.version == 2


def test_a_batch_over_midnight_becomes_a_file_per_day(appender: Appender, tmp_path: Path) -> None:
    both = pa.concat_tables([rows("a"), rows("b", received_ms=1_700_000_000_000 + DAY_MS)])
    files = appender.write(both, 0)
    appender.commit(files)

    assert sorted(file.partition_values["day"] or "" for file in files) == ["2023-11-14", "2023-11-15"]
    assert node_ids(tmp_path) == ["a", "b"]


def test_a_transaction_is_known_after_a_restart(appender: Appender, tmp_path: Path) -> None:
    appender.commit(appender.write(rows("a"), 0), Transaction("query", 7))

    again = Appender(TELEMETRY, str(tmp_path))
    assert again.has_committed(Transaction("query", 7))
    assert again.has_committed(Transaction("query", 6))
    assert not again.has_committed(Transaction("query", 8))
    assert not again.has_committed(Transaction("other", 0))


def test_a_second_writer_is_found_and_its_rows_are_untouched(appender: Appender, tmp_path: Path) -> None:
    write_deltalake(open_or_create(TELEMETRY, str(tmp_path)), rows("theirs"), mode="append")

    with pytest.raises(AnotherWriterError, match="version 1 was committed by another writer"):
        put(appender, "ours")
    assert node_ids(tmp_path) == ["theirs"]


def test_a_vacuum_by_somebody_else_is_no_second_writer(appender: Appender, tmp_path: Path) -> None:
    put(appender, "a")
    appender.write(rows("orphan"), 0)  # never committed, so the vacuum has something to remove
    table = DeltaTable(appender.uri)
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True)
    assert table.version() > appender.version
    put(appender, "b")

    assert node_ids(tmp_path) == ["a", "b"]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(
    appender: Appender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(table: pa.Table, where: pa.NativeFile, **_: object) -> None:
        where.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("thalweg.sync.delta.data_files.pq.write_table", fail)
    with pytest.raises(OSError, match="No space"):
        put(appender, "a")

    assert list(tmp_path.rglob("*.parquet")) == []
    assert appender.version == 0


def test_compaction_swaps_files_and_keeps_rows_order_and_bounds(appender: Appender, tmp_path: Path) -> None:
    for number in range(10):
        put(appender, f"n{number}", received_ms=1_700_000_000_000 + number)
    (group,) = groups_to_merge(files_of(DeltaTable(appender.uri)), TELEMETRY, few_files=10)
    merged = rewrite(appender, group, 0, lambda: False)
    put(appender, "meanwhile")
    assert merged is not None
    appender.commit(merged.actions, purpose="compaction")

    table = DeltaTable(appender.uri)
    assert len(table.file_uris()) == 2
    assert node_ids(tmp_path) == sorted([*(f"n{number}" for number in range(10)), "meanwhile"])
    (big,) = [file for file in files_of(table) if file.bounds.rows == 10]
    assert big.bounds.lowest["received_at"].timestamp() == 1_700_000_000
    assert big.bounds.highest["received_at"].timestamp() == 1_700_000_000.009
    # A reader that opened the table before still finds its files.
    assert DeltaTable(appender.uri, version=5).to_pyarrow_table().num_rows == 5


def test_a_file_that_was_merged_before_is_merged_again_a_step_at_a_time(
    appender: Appender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_ROWS_PER_STEP", 2)
    pauses: list[int] = []

    def merge_all() -> None:
        pauses.append(0)

        def pause() -> bool:
            pauses[-1] += 1
            return False

        merged = rewrite(appender, files_of(DeltaTable(appender.uri)), 0, pause)
        assert merged is not None
        appender.commit(merged.actions, purpose="compaction")

    for number in range(6):
        put(appender, f"n{number}", received_ms=1_700_000_000_000 + number)
    merge_all()
    put(appender, "n6", received_ms=1_700_000_000_006)
    merge_all()
    assert pauses == [3, 4], "a pause after every two rows, and not after every file"
    (path,) = DeltaTable(appender.uri).file_uris()
    assert pq.read_table(path, columns=["node_id"])["node_id"].to_pylist() == [f"n{number}" for number in range(7)]


def test_a_rewrite_that_is_stopped_leaves_nothing_behind(appender: Appender, tmp_path: Path) -> None:
    for number in range(8):
        put(appender, f"n{number}")
    before = set(tmp_path.rglob("*.parquet"))

    assert rewrite(appender, files_of(DeltaTable(appender.uri)), 0, lambda: True) is None
    assert set(tmp_path.rglob("*.parquet")) == before


def test_few_or_large_files_are_left_alone(appender: Appender) -> None:
    for _ in range(4):
        put(appender, "n")
    files = files_of(DeltaTable(appender.uri))

    assert groups_to_merge(files, TELEMETRY, few_files=5) == []
    assert groups_to_merge(files, TELEMETRY, few_files=4, large_bytes=10) == []
    assert [len(group) for group in groups_to_merge(files, TELEMETRY, few_files=4)] == [4]


def test_only_rows_older_than_the_retention_expire(appender: Appender, tmp_path: Path) -> None:
    now_ms = 1_700_000_000_000
    put(appender, "old", received_ms=now_ms - 9 * DAY_MS)
    put(appender, "new", received_ms=now_ms - 6 * DAY_MS)
    files = files_of(DeltaTable(appender.uri))
    appender.commit(expired(files, TELEMETRY, now_ms), purpose="retention")

    assert node_ids(tmp_path) == ["new"]
    assert expired(files, PLANS, now_ms) == (), "files without bounds of the column are kept"


def test_a_sweep_deletes_what_no_version_needs_and_commits_nothing(appender: Appender, tmp_path: Path) -> None:
    put(appender, "kept")
    orphan = tmp_path / "telemetry" / "day=2023-11-14" / "part-orphan.parquet"
    orphan.write_bytes(b"x")
    os.utime(orphan, (0, 0))
    version = DeltaTable(appender.uri).version()

    assert Upkeep(appender.uri).sweep() == 1
    assert not orphan.exists()
    assert DeltaTable(appender.uri).version() == version
    assert node_ids(tmp_path) == ["kept"]


def test_a_checkpoint_shortens_what_a_reader_replays(appender: Appender, tmp_path: Path) -> None:
    put(appender, "a")

    assert Upkeep(appender.uri).checkpoint() == 1
    assert list((tmp_path / "telemetry" / "_delta_log").glob("*.checkpoint.parquet"))
    put(appender, "b")
    assert node_ids(tmp_path) == ["a", "b"]


def test_a_commit_tells_how_much_it_is(appender: Appender) -> None:
    put(appender, "a")
    put(appender, "b")
    history = DeltaTable(appender.uri).history(1)[0]["operationMetrics"]
    assert (history["numFiles"], history["numOutputRows"], history["numRemovedFiles"]) == ("1", "1", "0")
    assert int(history["numOutputBytes"]) > 100
    merged = rewrite(appender, files_of(DeltaTable(appender.uri)), 0, lambda: False)
    assert merged is not None
    appender.commit(merged.actions, purpose="compaction")
    history = DeltaTable(appender.uri).history(1)[0]["operationMetrics"]
    assert (history["numFiles"], history["numOutputRows"], history["numRemovedFiles"]) == ("1", "2", "2")


@pytest.mark.parametrize("left", ["", "_commit_1.json.tmp", "00000000000000000000.json#1"])
def test_a_table_that_was_half_made_when_the_disk_was_full_is_made(tmp_path: Path, left: str) -> None:
    log = tmp_path / PLANS.name / "_delta_log"
    log.mkdir(parents=True)
    if left:
        (log / left).touch()
    assert Appender(PLANS, str(tmp_path)).version == 0
