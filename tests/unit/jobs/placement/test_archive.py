"""Tasks that ended long ago are moved out of `tasks`, each once, and stay in SQL."""

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder

from tests.ledger_rows import START, assigned, ledger, submitted
from tests.unit.jobs.placement.test_tables import NoThreads
from thalweg.jobs.placement import tables as module
from thalweg.jobs.placement.tables import PlaceTables
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.store import table_uri
from thalweg.sync.ledger.ledger import Ledger

AFTER_S = 3_600
HOUR = timedelta(hours=1)


class Stage:
    """A ledger and its tables, on a clock that the test moves."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.hours = folder, 0.0
        monkeypatch.setattr(module, "system_clock", lambda: round((START + self.hours * HOUR).timestamp() * 1_000))
        self.batch = 0
        self.begin()

    def begin(self, after_s: int = AFTER_S) -> None:
        self.tables = PlaceTables(
            str(self.folder), every_ms=10, compact_every_s=1, stop=NoThreads(), archive_after_s=after_s
        )
        self.held = Ledger.claim(str(self.folder))
        self.tables.start(self.held)

    def commit(self, *facts: dict[str, Any]) -> None:
        self.batch += 1
        rows = ledger(*facts, batch_id=self.batch, driver_epoch=self.held.driver_epoch, at_s=self.hours * 3_600)
        self.held.commit(rows, "q", self.batch, self.batch)
        self.tables.hand_over(rows)
        self.tables.step()

    def run(self, name: str) -> None:
        self.commit(submitted(name), assigned(name, 1), {"task_id": name, "transition": "succeeded", "epoch": 1})

    def compact(self) -> None:
        self.tables._compact()

    def ids(self, table: str) -> Counter[str]:
        found = DeltaTable(table_uri(str(self.folder), table)).to_pyarrow_table()
        return Counter(found.column("task_id").to_pylist())


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage(tmp_path, monkeypatch)
    made.run("old")
    made.compact()
    made.hours = 0.9
    made.run("younger")
    made.commit(submitted("lives"))
    return made


def test_what_ended_long_ago_is_moved_and_the_rest_stays(stage: Stage) -> None:
    stage.compact()
    assert stage.ids("tasks_archive") == Counter()
    stage.hours = 2.0
    stage.compact()
    stage.compact()
    assert stage.ids("tasks_archive") == Counter(["old", "younger"])
    assert stage.ids("tasks") == Counter(["lives"])
    archive = DeltaTable(table_uri(str(stage.folder), "tasks_archive"))
    told = (
        QueryBuilder().register("a", archive).execute("SELECT state, request FROM a WHERE task_id = 'old'").read_all()
    )
    assert pa.table(told).to_pylist()[0]["state"] == "succeeded"
    stage.commit(assigned("lives", 1), {"task_id": "lives", "transition": "succeeded", "epoch": 1})
    assert stage.ids("tasks") == Counter(["lives"])


@pytest.mark.parametrize("killed_before", ["tasks_archive", "tasks"])
def test_killed_in_the_middle_of_a_move_each_task_is_in_one_place_after_the_next_start(
    stage: Stage, killed_before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.hours = 3.0
    commit = Appender.commit

    def killed(table: Appender, *arguments: Any, **named: Any) -> None:
        if table.contract.name == killed_before and named.get("purpose") == "append":
            raise KeyboardInterrupt
        commit(table, *arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Appender, "commit", killed)
        stage.compact()
    both = stage.ids("tasks") + stage.ids("tasks_archive")
    assert (max(both.values()) == 2) is (killed_before == "tasks")
    stage.begin()
    stage.tables.step()
    assert stage.ids("tasks") + stage.ids("tasks_archive") == Counter(["old", "younger", "lives"])
    stage.compact()
    assert stage.ids("tasks") == Counter(["lives"])
    assert stage.ids("tasks_archive") == Counter(["old", "younger"])


@pytest.mark.parametrize(("after_s", "archived"), [(AFTER_S, ["old", "younger"]), (0, [])])
def test_folded_anew_each_task_is_in_one_place(stage: Stage, after_s: int, archived: list[str]) -> None:
    stage.hours = 3.0
    stage.compact()
    assert stage.ids("tasks_archive") == Counter(["old", "younger"])
    stage.begin(after_s)
    stage.tables._begun = True
    stage.tables._begin_anew(stage.tables._ledger_now())
    stage.tables.step()
    assert stage.ids("tasks_archive") == Counter(archived)
    assert stage.ids("tasks") + stage.ids("tasks_archive") == Counter(["old", "younger", "lives"])


def test_never_is_never(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, monkeypatch)
    stage.begin(0)
    stage.run("old")
    stage.hours = 10_000.0
    stage.compact()
    assert stage.ids("tasks") == Counter(["old"])
    assert stage.ids("tasks_archive") == Counter()
