"""A task that has ended and begins again is one row, wherever the row of its earlier life lies."""

import shutil
from typing import Any

import pytest
from deltalake import DeltaTable

from tests.ledger_rows import assigned, happened, submitted
from tests.unit.jobs.placement.test_archive import Stage, stage
from tests.unit.jobs.placement.test_tables import NoThreads
from thalweg.jobs.placement import tables
from thalweg.jobs.placement.archive import TaskArchive
from thalweg.jobs.placement.tables import PlaceTables
from thalweg.sync.delta import keyed_table
from thalweg.sync.delta.store import table_uri

__all__ = ["stage"]


def again(name: str, epoch: int = 1) -> dict[str, Any]:
    return submitted(name) | {"epoch": epoch}


def states(stage: Stage) -> dict[str, str]:
    found = DeltaTable(table_uri(str(stage.folder), "tasks")).to_pyarrow_table()
    names = found.column("task_id").to_pylist()
    assert len(names) == len(set(names)), names
    archived = stage.ids("tasks_archive")
    assert not archived.keys() & set(names)
    return dict(zip(names, found.column("state").to_pylist(), strict=True))


@pytest.mark.parametrize("held", [True, False], ids=["rows held", "rows read"])
def test_its_row_takes_the_place_of_the_settled_one(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, held: bool
) -> None:
    if not held:
        monkeypatch.setattr(keyed_table, "MOST_HELD_ROWS", 0)
        stage.run("before")
        stage.begin()  # what settled files hold is not read
    stage.commit(again("old"))
    assert states(stage)["old"] == "waiting"
    stage.commit(assigned("old", 2), happened("old", "failed", 2, reason="gave up"))
    stage.commit(again("old", 2), again("younger"))
    stage.commit(assigned("old", 3), happened("old", "succeeded", 3))
    assert states(stage)["old"] == "succeeded"
    assert states(stage)["younger"] == "waiting"
    assert states(stage)["lives"] == "waiting"


def test_it_ends_and_begins_again_within_one_step(stage: Stage) -> None:
    stage.commit(
        again("old"), happened("old", "cancelled", 1), again("old"), happened("old", "cancelled", 1), again("old")
    )
    assert states(stage)["old"] == "waiting"


def test_it_leaves_the_archive(stage: Stage) -> None:
    stage.hours = 5
    stage.compact()
    assert stage.ids("tasks_archive") == {"old": 1, "younger": 1}
    stage.commit(again("old"))
    assert states(stage)["old"] == "waiting"
    stage.begin()
    stage.commit(submitted("another"))
    assert states(stage)["old"] == "waiting"
    assert stage.ids("tasks_archive") == {"younger": 1}


@pytest.mark.parametrize("ends", [True, False], ids=["over", "alive"])
def test_folded_anew_it_is_one_row(stage: Stage, *, ends: bool) -> None:
    stage.commit(again("old"), *([happened("old", "cancelled", 1)] if ends else []))
    for table in ("tasks", "placements", "results", "tasks_archive"):
        shutil.rmtree(table_uri(str(stage.folder), table), ignore_errors=True)
    stage.begin(after_s=0)
    stage.tables.step()
    assert states(stage)["old"] == ("cancelled" if ends else "waiting")


def test_tables_in_which_an_earlier_version_left_two_rows_are_folded_anew(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "FOLD_DIGEST", "thalweg-fold-digest")
    stage.begin()
    stage.commit(again("old"))
    uri = table_uri(str(stage.folder), "tasks")
    twice = DeltaTable(uri).to_pyarrow_table()
    shutil.rmtree(uri)
    monkeypatch.setattr(TaskArchive, "take_back", lambda *_: None)
    monkeypatch.setattr(tables, "_last_lives", lambda ended, *_: ended)
    stage.begin()
    stage.tables.step()
    assert stage.ids("tasks")["old"] == 2 > twice.column("task_id").to_pylist().count("old")
    monkeypatch.undo()
    stage.tables = PlaceTables(str(stage.folder), every_ms=10, compact_every_s=0, stop=NoThreads())
    stage.tables.start(stage.held)
    stage.tables.step()
    assert states(stage)["old"] == "waiting"
