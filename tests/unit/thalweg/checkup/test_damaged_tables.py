"""A table whose log has a gap is told in words: which version is missing, and what can be done."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from thalweg.checkup.finding import Severity
from thalweg.checkup.tables import table_findings
from thalweg.query.sql.query import WarehouseUnreadableError, query
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import CONTRACTS
from thalweg.sync.delta.damage_remedy import NEWEST_ENTRY, is_newest_entry
from thalweg.sync.delta.store import DamagedTableError, open_or_create
from thalweg.sync.delta.table_health import log_gap


def entries(folder: Path, *versions: int, checkpoint: int | None = None) -> Path:
    folder.mkdir(parents=True)
    for version in versions:
        (folder / f"{version:020}.json").touch()
    if checkpoint is not None:
        (folder / f"{checkpoint:020}.checkpoint.parquet").touch()
    return folder


@pytest.mark.parametrize(
    ("versions", "checkpoint", "seen"),
    [
        ((0, 1, 2), None, None),
        ((), None, None),
        ((8, 9, 10, 11), 9, None),  # what the checkpoint stands for may be gone
        ((0, 1, 3), None, "version 2 is missing"),
        ((0, 1, 5, 9), None, "versions 2 to 4 are missing"),
        ((3, 4), None, "versions 0 to 2 are missing"),
        ((8, 9, 11), 9, "version 10 is missing"),
        ((0, 1, 999), 1, "versions 2 to 998 are missing"),
    ],
)
def test_a_gap_is_what_neither_entry_nor_checkpoint_stands_for(
    tmp_path: Path, versions: tuple[int, ...], checkpoint: int | None, seen: str | None
) -> None:
    found = log_gap(entries(tmp_path / "log", *versions, checkpoint=checkpoint))
    assert (found is None) == (seen is None)
    if found is not None and seen is not None:
        assert seen in found.seen


def with_gap(warehouse: Path, name: str) -> None:
    table = open_or_create({one.name: one for one in CONTRACTS}[name], str(warehouse))
    uri = str(warehouse / name)
    for _ in range(3):
        write_deltalake(uri, pa.schema(table.schema().to_arrow()).empty_table(), mode="append")
    assert DeltaTable(uri).version() == 3
    (warehouse / name / "_delta_log" / f"{2:020}.json").unlink()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("tasks", "the table is folded anew from the ledger, decisions"),
        ("decisions", "restore the table's folder from"),
    ],
)
def test_doctor_and_queries_say_which_version_and_what_to_do(tmp_path: Path, name: str, remedy: str) -> None:
    with_gap(tmp_path, name)
    (finding,) = [found for found in table_findings(str(tmp_path)) if found.check == f"table: {name}"]
    assert finding.status is Severity.PROBLEM
    assert "version 2 is missing" in finding.seen
    assert remedy in (finding.fix or "")
    with pytest.raises(WarehouseUnreadableError) as refused:
        query(f"SELECT * FROM {name}", str(tmp_path), None)
    said = str(refused.value)
    assert "version 2 is missing" in said
    assert remedy in said
    assert "ParsedLogPath" not in said


@pytest.mark.parametrize("name", ["decisions", "tasks", "plans"])
@pytest.mark.parametrize("text", ["", "{half"])
def test_an_empty_newest_commit_is_moved_away_before_anything_is_put_back_says_the_log_as_doctor_does(
    tmp_path: Path, name: str, text: str
) -> None:
    contract = {one.name: one for one in CONTRACTS}[name]
    version = open_or_create(contract, str(tmp_path)).version()
    entry = tmp_path / name / "_delta_log" / f"{version + 1:020}.json"
    entry.write_text(text)
    (finding,) = [found for found in table_findings(str(tmp_path)) if found.check == f"table: {name}"]
    with pytest.raises(DamagedTableError) as logged:
        Appender(contract, str(tmp_path))
    for said in (finding.fix, str(logged.value)):
        assert NEWEST_ENTRY in said
        assert said.index("move the file away") < said.index("If that does not help")
    entry.unlink()  # as it is advised
    assert Appender(contract, str(tmp_path)).version == version
    entry.with_name(f"{version:020}.json").write_text(text)
    entry.touch()  # another stands behind the damaged one: without it there would be a gap
    assert not is_newest_entry(str(entry.with_name(f"{version:020}.json")))
    assert NEWEST_ENTRY not in str(DamagedTableError(str(entry.with_name(f"{version:020}.json")), "is empty"))
