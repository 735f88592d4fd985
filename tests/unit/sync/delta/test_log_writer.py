"""The log writer over both kinds of commit: appending, fencing, compaction."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tests.ledger_rows import START
from thalweg.sync.delta import appender, commits
from thalweg.sync.delta.contracts import PLANS
from thalweg.sync.delta.log_writer import LogWriter
from thalweg.sync.delta.store import AnotherWriterError, table_uri

Open = Callable[[str], LogWriter]


@pytest.fixture(params=[lambda: commits.commit_locally, commits.RemoteCommits], ids=["local", "remote"])
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open a writer that commits one way or the other."""
    monkeypatch.setattr(appender, "commit_for", lambda _: request.param())
    return lambda warehouse: LogWriter(PLANS, warehouse)


def rows(*batches: int) -> pa.Table:
    return pa.Table.from_pylist(
        [{"plan_id": f"p{batch}", "query_id": "q", "batch_id": batch, "planned_at": START} for batch in batches],
        schema=PLANS.schema,
    )


def read(warehouse: Path) -> list[str]:
    table = DeltaTable(table_uri(str(warehouse), PLANS.name))
    return sorted(table.to_pyarrow_table().column("plan_id").to_pylist())


def test_appended_rows_and_transactions_are_read_back(opened: Open, tmp_path: Path) -> None:
    writer = opened(str(tmp_path))
    writer.append(rows(1, 2), {"q": 1})
    writer.append(rows(3), {"q": 2, "driver": 7})
    table = DeltaTable(table_uri(str(tmp_path), PLANS.name))
    assert read(tmp_path) == ["p1", "p2", "p3"]
    assert table.transaction_version("q") == 2
    assert table.transaction_version("driver") == 7


def test_a_commit_without_rows_records_its_transaction(opened: Open, tmp_path: Path) -> None:
    opened(str(tmp_path)).append(PLANS.schema.empty_table(), {"driver": 1})
    assert DeltaTable(table_uri(str(tmp_path), PLANS.name)).transaction_version("driver") == 1
    assert read(tmp_path) == []


def test_a_writer_is_refused_once_another_has_committed(opened: Open, tmp_path: Path) -> None:
    old, new = opened(str(tmp_path)), opened(str(tmp_path))
    new.append(rows(1), {})
    with pytest.raises(AnotherWriterError, match="one writer"):
        old.append(rows(2), {})
    assert read(tmp_path) == ["p1"]


def test_the_two_kinds_of_commit_fence_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = LogWriter(PLANS, str(tmp_path))
    monkeypatch.setattr(appender, "commit_for", lambda _: commits.RemoteCommits())
    remote = LogWriter(PLANS, str(tmp_path))
    local.append(rows(1), {})
    with pytest.raises(AnotherWriterError):
        remote.append(rows(2), {})


@pytest.mark.parametrize("held", [1_000, 5, 0])
def test_compaction_keeps_every_row_and_leaves_one_file(
    opened: Open, tmp_path: Path, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thalweg.sync.delta.log_writer.MOST_HELD_ROWS", held)
    writer = opened(str(tmp_path))
    for batch in range(12):
        writer.append(rows(batch), {"q": batch})
    assert writer.compact(at_least=20) == 0
    assert writer.compact(at_least=10) == 12
    writer.append(rows(12), {"q": 12})
    table = DeltaTable(table_uri(str(tmp_path), PLANS.name))
    assert len(table.file_uris()) == 2
    assert len(read(tmp_path)) == 13
    assert table.transaction_version("q") == 12


@pytest.mark.parametrize(("most_held", "read_again"), [(1_000, 0), (5, 7), (0, 12)])
def test_rows_are_held_until_they_are_merged_as_long_as_they_are_not_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_held: int, read_again: int
) -> None:
    monkeypatch.setattr("thalweg.sync.delta.log_writer.MOST_HELD_ROWS", most_held)
    opened: list[str] = []
    read_one = LogWriter._read
    monkeypatch.setattr(LogWriter, "_read", lambda self, file: opened.append(file.path) or read_one(self, file))
    writer = LogWriter(PLANS, str(tmp_path))
    for turn in range(2):  # what was merged is held no longer
        for batch in range(12):
            writer.append(rows(12 * turn + batch), {})
        writer.compact(at_least=10)
        assert len(set(opened)) == len(opened) == read_again * (turn + 1)


def test_reading_one_batch_opens_only_files_whose_statistics_allow_it(tmp_path: Path) -> None:
    writer = LogWriter(PLANS, str(tmp_path))
    for batch in range(5):
        writer.append(rows(batch), {})
    table = DeltaTable(table_uri(str(tmp_path), PLANS.name))
    assert sorted(pa.table(table.get_add_actions(flatten=True)).column("min.batch_id").to_pylist()) == [0, 1, 2, 3, 4]


def test_a_failed_write_leaves_no_file_and_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LogWriter(PLANS, str(tmp_path))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("thalweg.sync.delta.data_files.pq.write_table", full)
    with pytest.raises(OSError, match="No space left"):
        writer.append(rows(1), {})
    monkeypatch.undo()
    writer.append(rows(2), {})
    assert read(tmp_path) == ["p2"]
    leftovers = [path.name for path in (tmp_path / PLANS.name / "_delta_log").iterdir() if path.name.endswith(".tmp")]
    assert leftovers == []
