"""What the engine cannot read is told as a file that is not there: with a name, in a line, and what to do."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from thalweg.sync.delta.engine import UnreadableTableError, select, select_batches


@pytest.fixture
def table(tmp_path: Path) -> DeltaTable:
    write_deltalake(tmp_path / "tasks", pa.table({"task_id": ["a", "b"]}))
    return DeltaTable(tmp_path / "tasks")


def test_rows_are_the_same_at_once_and_in_pieces(table: DeltaTable) -> None:
    rows = select(table, "here", "SELECT * FROM here")
    assert rows.to_pylist() == [{"task_id": "a"}, {"task_id": "b"}]
    assert pa.concat_tables(select_batches(table, "here", "SELECT * FROM here")) == rows


@pytest.mark.parametrize(
    ("damage", "seen"), [(os.remove, "{file} is missing"), (lambda file: os.truncate(file, 8), "Failed to fetch")]
)
def test_a_file_that_cannot_be_read_is_the_world_outside(
    table: DeltaTable, damage: Callable[[str], None], seen: str
) -> None:
    (file,) = (uri.removeprefix("file://") for uri in table.file_uris())
    damage(file)
    for ask in (select, lambda *asked: list(select_batches(*asked))):
        with pytest.raises(OSError, match="version 0 cannot be read") as told:
            ask(table, "here", "SELECT * FROM here")
        assert isinstance(told.value, UnreadableTableError)
        words = str(told.value)
        assert words.startswith("table 'tasks': version 0 cannot be read: " + seen.format(file=file))
        assert "thalweg doctor" in words and "External error" not in words


def test_a_statement_that_is_wrong_is_no_matter_of_files(table: DeltaTable) -> None:
    with pytest.raises(DeltaError, match="nothing"):
        select(table, "here", "SELECT nothing FROM here")
