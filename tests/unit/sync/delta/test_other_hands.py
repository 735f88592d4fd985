"""Other tools at our tables: housekeeping ends no job, other writers and features that we lack are refused in words."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, TableFeatures, write_deltalake

from tests.ledger_rows import ledger, submitted
from tests.unit.sync.delta.test_keyed_table import tasks
from tests.unit.sync.tables.test_latest import nodes
from thalweg.sync.delta import appender, commits
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import CONFLICTS, DECISIONS, TASKS, TELEMETRY
from thalweg.sync.delta.keyed_table import KeyedTable
from thalweg.sync.delta.store import AnotherWriterError, DamagedTableError, TableRefusedError
from thalweg.sync.ledger.ledger import Ledger
from thalweg.sync.tables.latest_tables import LatestTables


def optimise(uri: str) -> None:
    DeltaTable(uri).optimize.compact()


def order(uri: str) -> None:
    DeltaTable(uri).optimize.z_order([DeltaTable(uri).schema().fields[1].name])


def vacuum(uri: str) -> None:
    DeltaTable(uri).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


def comment(uri: str) -> None:
    table = DeltaTable(uri)
    table.alter.set_table_description("ours")
    table.alter.set_table_properties({"delta.logRetentionDuration": "interval 9 hours"})
    table.alter.set_column_metadata(table.schema().fields[0].name, {"comment": "what it is"})


def checkpoint(uri: str) -> None:
    DeltaTable(uri).create_checkpoint()


HOUSEKEEPING = (optimise, order, vacuum, comment, checkpoint)
housekeeping = pytest.mark.parametrize("somebody", HOUSEKEEPING, ids=lambda tidy: tidy.__name__)
Tidy = Callable[[str], None]


@housekeeping
@pytest.mark.parametrize("commit", [lambda: commits.commit_locally, commits.RemoteCommits], ids=["local", "remote"])
def test_the_ledger_goes_on_behind_housekeeping_and_compacts_what_is_left(
    tmp_path: Path, somebody: Tidy, commit: Callable[[], commits.Commit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender, "commit_for", lambda _: commit())
    monkeypatch.setattr("thalweg.sync.ledger.ledger.COMPACT_FILES", 3)
    held = Ledger.claim(str(tmp_path))
    for batch in range(12):
        held.commit(ledger(submitted(f"t{batch}"), batch_id=batch), "q", batch, 0)
        if batch % 3 == 1:
            somebody(f"{tmp_path}/decisions")
        if batch % 4 == 3:
            held.compact()
    rows = pa.concat_tables(held.all_rows())
    assert rows["task_id"].to_pylist() == [f"t{batch}" for batch in range(12)]
    assert held.is_ours()


@housekeeping
def test_a_driver_that_was_replaced_is_stopped_whatever_came_in_between(tmp_path: Path, somebody: Tidy) -> None:
    old = Ledger.claim(str(tmp_path))
    old.commit(ledger(submitted("t0")), "q", 0, 0)
    somebody(f"{tmp_path}/decisions")
    new = Ledger.claim(str(tmp_path))
    somebody(f"{tmp_path}/decisions")
    with pytest.raises(AnotherWriterError):
        old.commit(ledger(submitted("zombie"), batch_id=1), "q", 1, 0)
    assert not old.is_ours()
    new.commit(ledger(submitted("t1"), batch_id=1, driver_epoch=2), "q", 1, 0)
    assert sorted(pa.concat_tables(new.all_rows())["task_id"].to_pylist()) == ["t0", "t1"]


def test_a_driver_that_slept_longer_than_the_log_reaches_back_is_stopped(tmp_path: Path) -> None:
    old, uri = Ledger.claim(str(tmp_path)), f"{tmp_path}/decisions"
    new = Ledger.claim(str(tmp_path))
    for batch in range(3):
        new.commit(ledger(submitted(f"t{batch}"), batch_id=batch), "q", batch, 0)
    DeltaTable(uri).create_checkpoint()
    for entry in sorted(Path(uri, "_delta_log").glob("*.json"))[:-1]:
        entry.unlink()  # as the clean-up does once they are old
    with pytest.raises(AnotherWriterError):
        old.commit(ledger(submitted("zombie"), batch_id=9), "q", 9, 0)
    assert len(pa.concat_tables(new.all_rows())) == 3
    assert len(list(Path(uri, "_delta_log").glob("*.json"))) == 1, "and leaves nothing in the log"
    new.commit(ledger(submitted("t3"), batch_id=3), "q", 3, 0)


@housekeeping
def test_keyed_tables_hold_each_row_once(tmp_path: Path, somebody: Tidy) -> None:
    table, none = KeyedTable(TASKS, str(tmp_path), 8), TASKS.schema.empty_table()
    for turn in range(8):
        rows = pa.concat_tables([tasks(0, 20, f"s{turn}"), tasks(100 + turn, 1, "succeeded")])
        table.write(rows, none, pa.array([False] * 20 + [True]), turn)
        if turn % 2:
            somebody(table.uri)
        if turn % 3 == 0:
            table.compact(turn)
    found = DeltaTable(table.uri).to_pyarrow_table()
    assert sorted(found["task_id"].to_pylist()) == sorted(
        [*(f"t{number:06d}" for number in range(20)), *(f"t{100 + turn:06d}" for turn in range(8))]
    )
    assert {row["state"] for row in found.to_pylist()} == {"s7", "succeeded"}


@housekeeping
def test_the_latest_tables_go_on(tmp_path: Path, somebody: Tidy) -> None:
    tables = LatestTables(str(tmp_path))
    for stamp in range(1, 6):
        tables.offer({"node": nodes({"node_id": "a", "stamp_ms": stamp, "gpus": stamp})}, stamp)
        tables.write()
        somebody(f"{tmp_path}/nodes")
    assert DeltaTable(f"{tmp_path}/nodes").to_pyarrow_table()["gpus"].to_pylist() == [5]


def test_rows_of_others_and_claims_of_others_are_no_housekeeping(tmp_path: Path) -> None:
    for number, change in enumerate((_adds, _deletes, _overwrites)):
        table = Appender(CONFLICTS, str(tmp_path / str(number)))
        table.commit(table.write(_conflict("a"), 0))
        change(table.uri)
        with pytest.raises(AnotherWriterError, match="committed by another writer"):
            table.commit(table.write(_conflict("b"), 0))


def _conflict(name: str) -> pa.Table:
    return pa.Table.from_pylist([{"conflict_id": name, "key": "k"}], schema=CONFLICTS.schema)


def _adds(uri: str) -> None:
    write_deltalake(uri, _conflict("theirs"), mode="append")


def _deletes(uri: str) -> None:
    DeltaTable(uri).delete("conflict_id = 'a'")


def _overwrites(uri: str) -> None:
    write_deltalake(uri, _conflict("theirs"), mode="overwrite")


FEATURES = {
    "changeDataFeed": {"delta.enableChangeDataFeed": "true"},
    "appendOnly": {"delta.appendOnly": "true"},
}


@pytest.mark.parametrize("feature", FEATURES)
def test_a_property_that_we_would_break_is_refused_when_the_table_opens_and_while_it_is_written(
    tmp_path: Path, feature: str
) -> None:
    running, none = KeyedTable(TASKS, str(tmp_path)), TASKS.schema.empty_table()
    running.write(tasks(0, 3, "pending"), none, pa.array([False] * 3), 0)
    table = DeltaTable(running.uri)
    table.alter.add_feature(TableFeatures.ChangeDataFeed, allow_protocol_versions_increase=True)
    table.alter.set_table_properties(FEATURES[feature])
    with pytest.raises(TableRefusedError, match=f"feature '{feature}'.*nothing was written"):
        running.write(tasks(0, 3, "running"), none, pa.array([False] * 3), 0)
    with pytest.raises(TableRefusedError, match=feature):
        KeyedTable(TASKS, str(tmp_path))
    assert set(DeltaTable(running.uri).to_pyarrow_table()["state"].to_pylist()) == {"pending"}


@pytest.mark.parametrize("feature", ["deletionVectors", "rowTracking", "clustering", "someday"])
def test_a_feature_that_we_do_not_know_is_refused_by_its_name(tmp_path: Path, feature: str) -> None:
    table = Appender(TELEMETRY, str(tmp_path))
    protocol = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": [feature]}
    if feature == "deletionVectors":
        protocol |= {"minReaderVersion": 3, "readerFeatures": [feature]}
    Path(table.uri, "_delta_log", f"{1:020d}.json").write_text(json.dumps({"protocol": protocol}) + "\n")
    with pytest.raises(TableRefusedError, match=feature):
        Appender(TELEMETRY, str(tmp_path))


def test_a_change_feed_on_a_table_that_only_grows_is_kept(tmp_path: Path) -> None:
    table = Appender(CONFLICTS, str(tmp_path))
    DeltaTable(table.uri).alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    table.commit(table.write(_conflict("a"), 0))
    changes = pa.table(DeltaTable(table.uri).load_cdf(starting_version=1).read_all())
    assert changes["_change_type"].to_pylist() == ["insert"]


def test_in_commit_timestamps_are_written_and_rise(tmp_path: Path) -> None:
    table = Appender(CONFLICTS, str(tmp_path))
    entry = json.loads(Path(table.uri, "_delta_log", f"{0:020d}.json").read_text().splitlines()[1])
    lines = Path(table.uri, "_delta_log", f"{0:020d}.json").read_text().splitlines()
    metadata = next(json.loads(line)["metaData"] for line in lines if "metaData" in line) | {"id": "x"}
    metadata["configuration"]["delta.enableInCommitTimestamps"] = "true"
    far_ms = 4_000_000_000_000
    protocol = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["inCommitTimestamp"]}
    actions = [{"commitInfo": {"inCommitTimestamp": far_ms}}, {"protocol": protocol}, {"metaData": metadata}]
    log = Path(table.uri, "_delta_log")
    (log / f"{1:020d}.json").write_text("".join(json.dumps(action) + "\n" for action in actions))
    for number in range(2):
        table.commit(table.write(_conflict(str(number)), 0))
    stamps = [
        json.loads((log / f"{version:020d}.json").read_text().splitlines()[0])["commitInfo"]["inCommitTimestamp"]
        for version in (2, 3)
    ]
    assert stamps == [far_ms + 1, far_ms + 2], entry


@pytest.mark.parametrize("content", [b"", b'{"commitInfo":{}}\n{"add":{"path":"x'])
def test_an_entry_that_is_empty_or_cut_off_is_said_and_not_passed_over(tmp_path: Path, content: bytes) -> None:
    held = Ledger.claim(str(tmp_path))
    held.commit(ledger(submitted("t0")), "q", 0, 0)
    newest = max(Path(tmp_path, DECISIONS.name, "_delta_log").glob("*.json"))
    newest.write_bytes(content)
    with pytest.raises(DamagedTableError, match=f"{newest.name} is (empty|cut off)"):
        Ledger.claim(str(tmp_path))
    newest.unlink()  # as it says
    assert Ledger.claim(str(tmp_path)).driver_epoch == 2


def test_a_data_file_that_is_not_as_logged_is_said(tmp_path: Path) -> None:
    held = Ledger.claim(str(tmp_path))
    held.commit(ledger(submitted("t0")), "q", 0, 0)
    (file,) = Path(tmp_path, DECISIONS.name).glob("*.parquet")
    file.write_bytes(b"")
    with pytest.raises(DamagedTableError, match="has 0 bytes, its log says"):
        Ledger.claim(str(tmp_path))


def test_a_commit_whose_answer_was_lost_is_not_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Appender(CONFLICTS, str(tmp_path))

    def answer_lost(uri: str, version: int, entry: commits.Entry) -> None:
        commits.commit_locally(uri, version, entry)
        raise commits.VersionTakenError

    monkeypatch.setattr(table, "_commit", answer_lost)
    table.commit(table.write(_conflict("a"), 0))
    monkeypatch.undo()
    table.commit(table.write(_conflict("b"), 0))
    assert sorted(DeltaTable(table.uri).to_pyarrow_table()["conflict_id"].to_pylist()) == ["a", "b"]
