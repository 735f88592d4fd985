"""Live tasks are the ledger's, to its last commit, wherever the tables stand; and their events miss nothing."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from tests.unit.thalweg.window.histories import random_batches, write_ledger, write_tables
from thalweg.query.reports import followed_tasks
from thalweg.query.reports.followed_tasks import FollowedTasks, events_after, events_of
from thalweg.query.reports.task_list import TaskFilter, TaskOrder
from thalweg.sync.delta.contracts import DECISIONS, TASKS
from thalweg.sync.delta.store import open_or_create, table_uri
from thalweg.sync.ledger.folds import fold_ledger
from thalweg.sync.ledger.reading import Position
from thalweg.window.feed import Feed, event_id, ledger_mark
from thalweg.window.watch import LedgerWatch


def states(live: FollowedTasks) -> dict[str, Any]:
    tasks = live.columns.find(TaskFilter(), TaskOrder.TASK, limit=10_000).tasks
    compared = ("state", "epoch", "regions", "tenant", "reason", "cost_usd_per_hour", "submitted_at", "changed_at")
    return {task["task_id"]: {name: task[name] for name in compared} for task in tasks}


def folded(batches: list[pa.Table]) -> dict[str, Any]:
    rows = fold_ledger(pa.concat_tables(batches))[0].to_pylist()
    found = {row["task_id"]: row for row in rows}
    for row in found.values():
        row["epoch"] = row["epoch"] or 0
    compared = ("state", "epoch", "regions", "tenant", "reason", "cost_usd_per_hour", "submitted_at", "changed_at")
    return {task_id: {name: row[name] for name in compared} for task_id, row in sorted(found.items())}


@pytest.mark.parametrize("tables_at", [None, 1, 4, 6])
def test_a_look_sees_what_the_ledger_says(tmp_path: Path, tables_at: int | None) -> None:
    """Tables of no fold, of an early batch, of a late one, and of all that is there at the first look."""
    batches = random_batches(11, 10, 80)
    write_ledger(str(tmp_path), batches[:6])
    if tables_at is not None:
        write_tables(str(tmp_path), batches[:tables_at])
    live = FollowedTasks(str(tmp_path))
    assert live.step() == []
    assert states(live) == folded(batches[:6])
    told = []
    for number in range(6, 10):
        write_ledger(str(tmp_path), batches[number : number + 1])
        told += live.step()
        assert states(live) == folded(batches[: number + 1])
        assert live.step() == []
    assert told == [event for rows in batches[6:] for event in events_of(rows)]


def test_a_ledger_that_is_opened_and_empty_is_no_trouble_and_its_first_rows_are_told(tmp_path: Path) -> None:
    open_or_create(DECISIONS, str(tmp_path))
    live = FollowedTasks(str(tmp_path))
    batches = random_batches(3, 1, 5)
    assert live.step() == []
    DeltaTable(table_uri(str(tmp_path), DECISIONS.name)).alter.set_table_properties({"delta.appendOnly": "false"})
    assert live.step() == [], "a commit without rows"
    write_ledger(str(tmp_path), batches)
    assert live.step() == list(events_of(batches[0]))


def test_tables_without_a_mark_are_not_believed(tmp_path: Path) -> None:
    batches = random_batches(5, 4, 30)
    write_ledger(str(tmp_path), batches)
    write_tables(str(tmp_path), batches[:2], marked=False)
    live = FollowedTasks(str(tmp_path))
    live.step()
    assert states(live) == folded(batches)


@pytest.mark.parametrize("is_swept", [False, True])
def test_tables_of_which_one_is_a_commit_ahead_are_read_as_of_one_batch(tmp_path: Path, is_swept: bool) -> None:
    batches = random_batches(6, 4, 30)
    write_ledger(str(tmp_path), batches)
    write_tables(str(tmp_path), batches[:2])
    shutil.copytree(tmp_path / "placements", tmp_path / "kept")
    write_tables(str(tmp_path), batches[:3])
    shutil.rmtree(tmp_path / "placements")
    (tmp_path / "kept").rename(tmp_path / "placements")
    if is_swept:  # the version that the other is of has no files any more
        DeltaTable(tmp_path / "tasks").vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    live = FollowedTasks(str(tmp_path))
    live.step()
    assert states(live) == folded(batches)


def test_another_ledger_in_the_same_place_is_read_anew(tmp_path: Path) -> None:
    live = FollowedTasks(str(tmp_path))
    assert live.step() == []  # nothing is there yet
    write_ledger(str(tmp_path), random_batches(1, 3, 20))
    live.step()
    shutil.rmtree(tmp_path / "decisions")
    others = random_batches(2, 5, 40)
    write_ledger(str(tmp_path), others)
    for _ in range(2):  # the first may find the log gone
        try:
            live.step()
        except Exception:
            live.load_anew()
    assert states(live) == folded(others)


def test_a_ledger_that_was_put_back_to_an_earlier_state_is_seen_by_itself(tmp_path: Path) -> None:
    batches = random_batches(8, 6, 40)
    write_ledger(str(tmp_path), batches[:2])
    shutil.copytree(tmp_path / "decisions", tmp_path / "kept")
    write_ledger(str(tmp_path), batches[2:])
    live = FollowedTasks(str(tmp_path))
    live.step()
    assert states(live) == folded(batches)
    shutil.rmtree(tmp_path / "decisions")
    (tmp_path / "kept").rename(tmp_path / "decisions")
    for _ in range(followed_tasks._LOOKS_AFRESH):
        with suppress(DeltaError):  # the log has fewer versions than were seen
            live.step()
    assert states(live) == folded(batches[:2])


def test_all_is_read_anew_only_where_much_was_archived_and_listeners_hear_what_came_meanwhile(tmp_path: Path) -> None:
    batches = random_batches(13, 6, 60)
    write_ledger(str(tmp_path), batches[:4])
    write_tables(str(tmp_path), batches[:4])
    tasks, feed = FollowedTasks(str(tmp_path)), Feed(lambda position, limit: [])
    watch = LedgerWatch(tasks, feed, lambda: 1, look_s=1, anew_s=1)
    watch.step()
    was = tasks.columns
    watch.load_anew()
    assert tasks.columns is was, "nothing was archived"
    table = DeltaTable(table_uri(str(tmp_path), TASKS.name))
    ids = pa.table(table.to_pyarrow_table(columns=["task_id"])).column("task_id").to_pylist()
    table.delete(f"task_id IN ({', '.join(map(repr, ids[: len(ids) // 4]))})")
    write_ledger(str(tmp_path), batches[4:5])
    watch.load_anew()
    assert tasks.columns is not was
    came = [event_id(event.position, ledger_mark(tasks.ledger_id)) for event in events_of(batches[4])]
    assert [body.text.split(b"\n")[0].decode() for body in feed._kept] == [f"id: {one}" for one in came]


def test_what_lies_behind_a_position_is_read_in_order_and_in_pieces(tmp_path: Path) -> None:
    batches = random_batches(3, 5, 40)
    write_ledger(str(tmp_path), batches)
    everything = [event for rows in batches for event in events_of(rows)]
    at, read = Position(0, 0, 0), []
    while piece := events_after(str(tmp_path), at, 7):
        read += piece
        at = piece[-1].position
    assert read == everything
