"""What compaction has made is merged again: few files however long it goes on, and no row is written too often."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from tests.ledger_rows import START
from thalweg.sync.delta import compaction
from thalweg.sync.delta.compaction import MOST_RUNS, SmallFile, runs_to_merge
from thalweg.sync.delta.contracts import PLANS, RESULTS
from thalweg.sync.delta.file_bounds import FileBounds
from thalweg.sync.delta.keyed_table import KeyedTable
from thalweg.sync.delta.log_writer import LogWriter
from thalweg.sync.delta.store import table_uri

FEW = 12
LARGE = 10_000


def file_of(number: int, size_bytes: int) -> SmallFile:
    bounds = FileBounds(rows=1, lowest={}, highest={}, nulls={})
    return SmallFile(path=str(number), size_bytes=size_bytes, partition_values=(), bounds=bounds)


def played(sizes: Sequence[int]) -> tuple[list[SmallFile], int, int]:
    """Let files come and be merged; return what is left, the most small ones there ever were, and bytes written."""
    files: list[SmallFile] = []
    most = written = 0
    for number, size in enumerate(sizes):
        files.append(file_of(number, size))
        for run in runs_to_merge(files, large_bytes=LARGE, few_files=FEW):
            at = files.index(run[0])
            assert files[at : at + len(run)] == run or len(run) > MOST_RUNS * FEW, "neighbours only"
            whole = sum(file.size_bytes for file in run)
            files = [file for file in files if file not in run]
            files.insert(at, file_of(-number, whole))
            written += whole
        most = max(most, sum(file.size_bytes < LARGE for file in files))
    return files, most, written


@given(st.lists(st.integers(1, 2 * LARGE), max_size=300))
def test_there_are_never_many_small_files_and_no_byte_is_lost(sizes: list[int]) -> None:
    files, most, _ = played(sizes)
    assert most <= MOST_RUNS * FEW
    assert sum(file.size_bytes for file in files) == sum(sizes)


def test_a_steady_stream_is_written_once_for_each_step_in_size() -> None:
    _, most, written = played([10] * 5_000)
    # 10 → 120 → 1,440 → 17,280, which is large: three steps.
    assert written <= 3 * 50_000
    assert most <= 3 * FEW


def test_files_beside_a_large_one_are_not_merged_over_it() -> None:
    files = [file_of(1, 10), file_of(2, 10), file_of(3, LARGE), file_of(4, 10), file_of(5, 10)]
    assert runs_to_merge(files, large_bytes=LARGE, few_files=3) == []


@pytest.fixture
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = compaction.runs_to_merge
    monkeypatch.setattr(compaction, "runs_to_merge", lambda files: choose(files, few_files=3))


def plan_of(batch: int) -> pa.Table:
    row = {"plan_id": f"p{batch}", "query_id": "q", "batch_id": batch, "planned_at": START}
    return pa.Table.from_pylist([row], schema=PLANS.schema)


def never() -> bool:
    return False


@pytest.mark.usefixtures("few_are_enough")
def test_a_log_keeps_its_rows_and_few_files_while_it_goes_on(tmp_path: Path) -> None:
    writer, uri = LogWriter(PLANS, str(tmp_path)), table_uri(str(tmp_path), PLANS.name)
    most = 0
    for batch in range(60):
        writer.append(plan_of(batch), {"q": batch})
        if batch % 2:
            writer.compact(at_least=2)
            writer.merge_once_more(never)
        most = max(most, len(DeltaTable(uri).file_uris()))
    assert most < 12
    table = DeltaTable(uri)
    assert sorted(table.to_pyarrow_table().column("batch_id").to_pylist()) == list(range(60))
    last = sorted(Path(uri, "_delta_log").glob("*.json"))[-1].read_text()
    assert '"dataChange":true' not in last, "whoever follows the table sees no change"
    writer.append(plan_of(60), {"q": 60})


@pytest.mark.usefixtures("few_are_enough")
def test_a_log_that_is_told_to_stop_leaves_everything_as_it_was(tmp_path: Path) -> None:
    writer, uri = LogWriter(PLANS, str(tmp_path)), table_uri(str(tmp_path), PLANS.name)
    for batch in range(8):
        writer.append(plan_of(batch), {})
        writer.compact(at_least=1)
    before = sorted(Path(uri).glob("*.parquet"))
    assert writer.merge_once_more(lambda: True) == 0
    assert sorted(Path(uri).glob("*.parquet")) == before
    assert writer.merge_once_more(never) == 8


@pytest.mark.usefixtures("few_are_enough")
def test_settled_rows_stay_what_they_are_while_their_files_are_merged(tmp_path: Path) -> None:
    ended = ("state", ("succeeded",))
    table, nothing = KeyedTable(RESULTS, str(tmp_path), settled_by=ended), RESULTS.schema.empty_table()
    for number in range(40):
        row = {"task_id": f"t{number}", "copy": 0, "epoch": 1, "state": "succeeded", "ended_at": START}
        table.write(pa.Table.from_pylist([row], schema=RESULTS.schema), nothing, pa.array([True]), 0)
        if number % 2:
            table.compact(0)
            table.merge_settled(0, never)
    stored = DeltaTable(table_uri(str(tmp_path), RESULTS.name))
    assert len(stored.file_uris()) < 12
    names = stored.to_pyarrow_table().column("task_id").to_pylist()
    assert sorted(names) == sorted(f"t{number}" for number in range(40))
    again = KeyedTable(RESULTS, str(tmp_path), settled_by=ended)
    again.resume()
    assert again.merge_settled(0, never) == 0
