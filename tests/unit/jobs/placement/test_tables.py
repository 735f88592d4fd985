"""The tables derived from the ledger: equal to a fold of it, also after a disk that was full for a while."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tests.ledger_rows import assigned, ledger, submitted
from thalweg.jobs.placement.tables import PlaceTables
from thalweg.jobs.runtime.background import failing_beside
from thalweg.jobs.runtime.health import STALE_S
from thalweg.jobs.runtime.job import Stop
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import PLACEMENTS, TASKS
from thalweg.sync.delta.keyed_table import KeyedTable
from thalweg.sync.delta.store import AnotherWriterError, append, open_or_create, table_uri
from thalweg.sync.ledger.fold_marks import FOLD_BATCH, FOLD_DIGEST, FOLD_DRIVER
from thalweg.sync.ledger.folds import LedgerFold, fold_ledger
from thalweg.sync.ledger.ledger import Ledger

PIECES = (
    ledger(submitted("a"), submitted("b"), assigned("a", 1), batch_id=1),
    ledger(
        {"task_id": "a", "transition": "succeeded", "epoch": 1, "outcome": '{"exit_code":0,"result":{"x":1}}'},
        assigned("b", 1),
        batch_id=2,
    ),
    ledger({"task_id": "b", "transition": "failed", "epoch": 1, "reason": "exit code 1", "cause": "exit"}, batch_id=3),
)


def stored(folder: Path, table: str, key: str) -> list[dict[str, object]]:
    rows = DeltaTable(table_uri(str(folder), table)).to_pyarrow_table().to_pylist()
    return sorted(rows, key=lambda row: str(row[key]))


def agrees_with_ledger(folder: Path) -> bool:
    tasks, placements = fold_ledger(pa.concat_tables(PIECES))
    results = LedgerFold().fold(pa.concat_tables(PIECES)).results
    assert results.num_rows == 2
    return (
        stored(folder, "tasks", "task_id") == sorted(tasks.to_pylist(), key=lambda row: str(row["task_id"]))
        and stored(folder, "placements", "task_id") == placements.to_pylist()
        and stored(folder, "results", "task_id") == results.to_pylist()
    )


@pytest.mark.parametrize("failing", ["tasks", "placements", "results"])
def test_what_could_not_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    tables = PlaceTables(str(tmp_path), every_ms=10, compact_every_s=0, stop=Stop())
    commit = Appender.commit
    failures = [OSError("No space left on device")] * 2

    def sometimes(table: Appender, *arguments: Any, **named: Any) -> None:
        if failures and table.contract.name == failing:
            raise failures.pop()
        commit(table, *arguments, **named)

    monkeypatch.setattr(Appender, "commit", sometimes)
    for piece in PIECES:
        tables.hand_over(piece)
        try:
            tables.step()
        except OSError:
            continue
    assert not failures
    tables.step()
    assert agrees_with_ledger(tmp_path)


def test_the_last_rows_are_written_before_the_job_ends(tmp_path: Path) -> None:
    stop = Stop()
    tables = PlaceTables(str(tmp_path), every_ms=60_000, compact_every_s=0, stop=stop)
    tables.start(Ledger.claim(str(tmp_path)))
    for piece in PIECES:
        tables.hand_over(piece)
    stop.finish()
    assert agrees_with_ledger(tmp_path)


def test_an_older_drivers_last_step_does_not_stop_its_successors_tables(tmp_path: Path) -> None:
    older = Ledger.claim(str(tmp_path))
    lingering = PlaceTables(str(tmp_path), every_ms=10, compact_every_s=0, stop=NoThreads())
    lingering.start(older)
    older.commit(PIECES[0], "q", 1, 1)
    lingering.hand_over(PIECES[0])
    lingering.step()
    newer = Ledger.claim(str(tmp_path))
    tables = PlaceTables(str(tmp_path), every_ms=10, compact_every_s=0, stop=NoThreads())
    tables.start(newer)
    tables.hand_over(PIECES[0])
    lingering.hand_over(ledger(submitted("ghost"), batch_id=9))
    lingering.step()  # after the successor has opened the tables
    for number, piece in enumerate(PIECES[1:], start=2):
        newer.commit(piece, "q", number, number)
        tables.hand_over(piece)
        tables.step()
    assert agrees_with_ledger(tmp_path)
    lingering.hand_over(ledger(submitted("ghost2"), batch_id=10))
    with pytest.raises(AnotherWriterError):
        lingering.step()
    assert agrees_with_ledger(tmp_path), "and the older one does not take them back"


@pytest.mark.parametrize("name", ["tasks", "placements", "plans", "decisions"])
def test_the_tables_go_on_after_somebody_has_optimised_them(tmp_path: Path, name: str) -> None:
    held = Ledger.claim(str(tmp_path))
    tables = PlaceTables(str(tmp_path), every_ms=10, compact_every_s=0, stop=NoThreads())
    tables.start(held)
    for number, piece in enumerate(PIECES, start=1):
        held.commit(piece, "q", number, number)
        tables.hand_over(piece)
        tables.step()
        DeltaTable(table_uri(str(tmp_path), name)).optimize.compact()
        DeltaTable(table_uri(str(tmp_path), name)).alter.set_table_description("touched")
    tables.step()
    assert agrees_with_ledger(tmp_path)


@pytest.mark.parametrize("name", ["tasks", "placements", "results"])
def test_that_a_table_cannot_be_written_is_said_within_seconds_with_its_file_until_it_can(
    tmp_path: Path, name: str
) -> None:
    held = Ledger.claim(str(tmp_path))
    turns = Turns()
    tables = PlaceTables(str(tmp_path), every_ms=0, compact_every_s=0, stop=turns)
    tables.hand_over(PIECES[0])
    tables.look_after(held)
    tables.step()
    log = tmp_path / name / "_delta_log"
    foreign = log / f"{DeltaTable(log.parent).version() + 1:020d}.json"

    def break_it() -> None:
        foreign.touch()  # half of a commit of somebody else's
        tables.hand_over(PIECES[1])

    turns.before += [break_it, lambda: None, foreign.unlink]
    tables.start(held)
    turns.finish()
    well, broken, still_broken, mended = turns.seen
    assert (well, mended) == ({}, {})
    for said in (broken, still_broken):
        assert "what tasks, placements, results and plans say is as old" in said["place-tables"]
        assert f"{foreign} is empty" in said["place-tables"]
    assert stored(tmp_path, "tasks", "task_id")[0]["state"] == "succeeded"


class Turns(Stop):
    """Lets a thread take some turns: before each the test does something, and looks who has failed for some seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[Callable[[], None]] = []
        self.seen: list[dict[str, str]] = []

    def wait(self, seconds: float) -> bool:
        self.seen.append(failing_beside(time.monotonic() + STALE_S))
        if self.before:
            self.before.pop(0)()
            return False
        return True


class NoThreads(Stop):
    """Whoever starts a thread with it takes the steps himself."""

    def start(self, thread: Any) -> None:
        """Leave the thread alone."""


@pytest.mark.parametrize("compact_every_s", [0, 60])
def test_files_are_compacted_beside_the_writing_where_the_setting_says_so(tmp_path: Path, compact_every_s: int) -> None:
    started: list[str] = []

    class Noting(Stop):
        def start(self, thread: Any) -> None:
            started.append(thread.name)

    tables = PlaceTables(str(tmp_path), every_ms=10, compact_every_s=compact_every_s, stop=Noting())
    tables.start(Ledger.claim(str(tmp_path)))
    assert started == ["place-tables", *(["place-plans-upkeep"] if compact_every_s else [])]


# A start goes on from what the tables hold


def begin(folder: Path) -> tuple[Ledger, PlaceTables]:
    tables = PlaceTables(str(folder), every_ms=10, compact_every_s=0, stop=NoThreads())
    held = Ledger.claim(str(folder))
    tables.start(held)
    return held, tables


def files(folder: Path, table: str) -> set[str]:
    return set(DeltaTable(table_uri(str(folder), table)).file_uris())


@pytest.mark.parametrize("told", [0, 1, 2, 3])
def test_a_start_goes_on_where_the_tables_were_left(tmp_path: Path, told: int, monkeypatch: pytest.MonkeyPatch) -> None:
    held, tables = begin(tmp_path)
    for number, piece in enumerate(PIECES, start=1):
        held.commit(piece, "q", number, number)
        if number <= told:
            tables.hand_over(piece)
            tables.step()
    before = files(tmp_path, "tasks")
    monkeypatch.setattr(PlaceTables, "_begin_anew", _never if told else PlaceTables._begin_anew)
    _, again = begin(tmp_path)
    again.step()
    assert agrees_with_ledger(tmp_path)
    assert files(tmp_path, "tasks") == before or told < 3, "what has ended is not written again"
    again.step()
    assert agrees_with_ledger(tmp_path)


def _never(*_: object) -> None:
    raise AssertionError("the whole ledger is folded")


@pytest.mark.parametrize("is_swept", [False, True])
@pytest.mark.parametrize("killed_before", ["results", "tasks", "placements"])
def test_killed_between_the_tables_a_start_brings_all_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_before: str, is_swept: bool
) -> None:
    held, tables = begin(tmp_path)
    held.commit(PIECES[0], "q", 1, 1)
    tables.hand_over(PIECES[0])
    tables.step()
    held.commit(PIECES[1], "q", 2, 2)
    tables.hand_over(PIECES[1])
    commit = Appender.commit

    def killed(table: Appender, *arguments: Any, **named: Any) -> None:
        if table.contract.name == killed_before:
            raise KeyboardInterrupt
        commit(table, *arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Appender, "commit", killed)
        tables.step()
    if is_swept:  # somebody's VACUUM: of no table there are files of an older version
        for name in ("tasks", "placements", "results"):
            table = DeltaTable(table_uri(str(tmp_path), name))
            table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    held.commit(PIECES[2], "q", 3, 3)
    _, again = begin(tmp_path)
    again.step()
    assert agrees_with_ledger(tmp_path)


@pytest.mark.parametrize("name", ["tasks", "placements", "results"])
def test_a_table_with_a_file_that_cannot_be_read_is_folded_anew(tmp_path: Path, name: str) -> None:
    held, tables = begin(tmp_path)
    held.commit(PIECES[0], "q", 1, 1)
    held.commit(PIECES[1], "q", 2, 2)
    tables.hand_over(pa.concat_tables(PIECES[:2]))
    tables.step()
    for file in files(tmp_path, name):
        path = Path(file.removeprefix("file://"))
        path.write_bytes(bytes(path.stat().st_size))
    held.commit(PIECES[2], "q", 3, 3)
    _, again = begin(tmp_path)
    again.step()
    assert agrees_with_ledger(tmp_path)


def test_tables_of_another_ledger_are_folded_anew(tmp_path: Path) -> None:
    held, tables = begin(tmp_path)
    other = ledger(submitted("x"), assigned("x", 1), {"task_id": "x", "transition": "succeeded"}, batch_id=1)
    held.commit(other, "q", 1, 1)
    tables.hand_over(other)
    tables.step()
    shutil.rmtree(tmp_path / "decisions")
    held, again = begin(tmp_path)
    for number, piece in enumerate(PIECES, start=1):
        held.commit(piece, "q", number, number)
    again.step()
    assert agrees_with_ledger(tmp_path)


def test_a_table_of_an_older_version_which_does_not_say_what_it_is_of_is_folded_anew(tmp_path: Path) -> None:
    held, tables = begin(tmp_path)
    for number, piece in enumerate(PIECES, start=1):
        held.commit(piece, "q", number, number)
    fold_of_first = fold_ledger(PIECES[0])
    for contract, rows in zip((TASKS, PLACEMENTS), fold_of_first, strict=True):
        append(open_or_create(contract, str(tmp_path)), rows)
    del tables
    _, again = begin(tmp_path)
    again.step()
    assert agrees_with_ledger(tmp_path)


def test_live_rows_of_an_older_version_say_what_a_delay_costs_after_a_start(tmp_path: Path) -> None:
    held, tables = begin(tmp_path)
    piece = ledger(submitted("a", per_worker={"gpus": 3}), submitted("b"), assigned("b", 1), batch_id=1)
    held.commit(piece, "q", 1, 1)
    tables.hand_over(piece)
    tables.step()
    marks = {name: DeltaTable(table_uri(str(tmp_path), "tasks")).transaction_version(name) for name in _MARKS}
    older = KeyedTable.resumed(TASKS, str(tmp_path))
    rows = older.rows()
    place = rows.schema.get_field_index("value_usd_per_hour")
    rows = rows.set_column(place, rows.schema.field(place), pa.nulls(2, pa.float64()))
    older.write(rows, TASKS.schema.empty_table(), pa.array([False, False]), 1, marks)
    assert [row["value_usd_per_hour"] for row in stored(tmp_path, "tasks", "task_id")] == [None, None]
    _, again = begin(tmp_path)
    again.step()
    assert [row["value_usd_per_hour"] for row in stored(tmp_path, "tasks", "task_id")] == [6.0, 2.0]
    written = files(tmp_path, "tasks")
    _, once_more = begin(tmp_path)
    once_more.step()
    assert files(tmp_path, "tasks") == written


_MARKS = (FOLD_DRIVER, FOLD_BATCH, FOLD_DIGEST)
