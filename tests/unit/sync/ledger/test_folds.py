from typing import Any

import pyarrow as pa
import pytest

from tests.ledger_rows import START, assigned, happened, ledger, submitted
from thalweg.sync.delta.contracts import DECISIONS, PLACEMENTS, TASKS
from thalweg.sync.delta.wide_text import wide_text
from thalweg.sync.ledger import folds
from thalweg.sync.ledger.folds import LedgerFold, Position, fold_ledger


def task(rows: pa.Table, task_id: str = "t") -> dict[str, Any]:
    (found,) = (row for row in fold_ledger(rows)[0].to_pylist() if row["task_id"] == task_id)
    return found


def placements(rows: pa.Table) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["task_id"], row["copy"]): row for row in fold_ledger(rows)[1].to_pylist()}


def test_a_submitted_task_waits_with_its_request_tenant_and_priority() -> None:
    row = task(ledger(submitted("t", tenant="lab", priority=700), at_s=5))
    assert (row["state"], row["tenant"], row["priority"], row["regions"]) == ("waiting", "lab", 700, [])
    assert row["request"] == '{"task_id": "t", "tenant": "lab", "priority": 700}'
    assert (row["submitted_at"] - START).total_seconds() == 5


def test_a_task_goes_from_assigned_over_accepted_to_running_and_succeeded() -> None:
    story = [submitted("t"), assigned("t", 1), happened("t", "accepted", 1), happened("t", "running", 1)]
    states = [task(ledger(*story[: count + 1]))["state"] for count in range(len(story))]
    assert states == ["waiting", "assigned", "assigned", "running"]
    assert placements(ledger(*story))["t", 0]["state"] == "running"
    done = ledger(*story, happened("t", "succeeded", 1))
    assert task(done)["state"] == "succeeded"
    assert task(done)["regions"] == ["aws:us-east-1"]
    assert task(done)["cost_usd_per_hour"] == 0.0
    assert placements(done) == {}


def test_a_placement_carries_what_its_assigned_row_said() -> None:
    (row,) = placements(ledger(submitted("t"), assigned("t", 1), batch_id=3)).values()
    assert row == {
        "task_id": "t", "copy": 0, "epoch": 1, "state": "assigned", "region": "aws:us-east-1",
        "pool_id": "aws:us-east-1/A100/on-demand", "plan_id": "plan-1", "cost_usd_per_hour": 24.0,
        "nodes": [{"node_id": "aws:us-east-1-n1", "workers": 1, "gpus": 8, "gpu_milli": 0, "devices": [0, 1]}],
        "assigned_at": row["assigned_at"], "changed_at": row["assigned_at"],
    }  # fmt: skip
    assert (row["assigned_at"] - START).total_seconds() == 3


@pytest.mark.parametrize("release", ["revoked", "lost", "evicted", "failed"])
def test_a_released_copy_waits_and_keeps_the_reason(release: str) -> None:
    rows = ledger(submitted("t"), assigned("t", 1), happened("t", release, 2, reason="because"))
    assert placements(rows) == {}
    assert (task(rows)["state"], task(rows)["reason"], task(rows)["epoch"]) == ("waiting", "because", 2)
    again = ledger(
        submitted("t"), assigned("t", 1), happened("t", release, 2), assigned("t", 3, "gcp:us-west1", attempt=2)
    )
    assert (task(again)["state"], task(again)["regions"], task(again)["attempt"]) == ("assigned", ["gcp:us-west1"], 2)


def test_a_task_that_was_given_up_has_failed_for_good() -> None:
    rows = ledger(
        submitted("t"), assigned("t", 1), happened("t", "failed", 1, reason="gave up after 3 attempts: exit code 1")
    )
    assert task(rows)["state"] == "failed"
    assert placements(rows) == {}
    late = ledger(assigned("t", 2), batch_id=1)
    assert task(pa.concat_tables([rows, late]))["state"] == "failed"


def test_a_cancelled_task_ends_whatever_its_epoch_and_loses_its_placement() -> None:
    rows = ledger(submitted("t"), assigned("t", 4), happened("t", "cancelled"), happened("t", "running", 4))
    assert task(rows)["state"] == "cancelled"
    assert placements(rows) == {}


def test_a_refused_request_changes_nothing() -> None:
    before = ledger(submitted("t"), assigned("t", 1))
    refused = ledger(happened("t", "refused", reason="other content"), happened("u", "refused"), batch_id=1)
    assert fold_ledger(pa.concat_tables([before, refused])) == fold_ledger(before)


def test_a_repair_spends_an_epoch_and_changes_nothing_else() -> None:
    before = ledger(submitted("t"), assigned("t", 1))
    repaired = ledger(happened("t", "repaired", 7, region="gcp:us-west1", reason="held epoch 6"), batch_id=1)
    after = task(pa.concat_tables([before, repaired]))
    assert after == task(before) | {"epoch": 7}
    assert placements(pa.concat_tables([before, repaired])) == placements(before)


def test_the_reason_to_wait_is_kept_while_another_copy_is_placed() -> None:
    rows = ledger(submitted("t", replicas=2), assigned("t", 1), happened("t", "waiting", 1, reason="replicas: one"))
    assert (task(rows)["state"], task(rows)["reason"]) == ("waiting", "replicas: one")
    late = ledger(submitted("t"), assigned("t", 1), happened("t", "waiting", 1, reason="capacity: full"))
    assert (task(late)["state"], task(late)["reason"]) == ("assigned", None)


def test_an_update_replaces_request_and_priority_but_not_the_time_of_submission() -> None:
    rows = pa.concat_tables(
        [
            ledger(submitted("t", priority=1), batch_id=0),
            ledger(submitted("t", priority=9) | {"transition": "updated"}, batch_id=1),
        ]
    )
    assert task(rows)["priority"] == 9
    assert task(rows)["submitted_at"] == START
    assert task(rows)["changed_at"] > START


def test_a_row_of_an_older_epoch_says_nothing_about_the_present_placement() -> None:
    moved = [submitted("t"), assigned("t", 1), happened("t", "revoked", 2), assigned("t", 3, "gcp:us-west1")]
    rows = ledger(*moved, happened("t", "failed", 1), happened("t", "running", 1))
    assert placements(rows)["t", 0]["state"] == "assigned"
    assert task(rows)["regions"] == ["gcp:us-west1"]


def test_a_task_with_replicas_is_as_far_as_its_slowest_copy() -> None:
    def copy(number: int, fact: dict[str, Any]) -> dict[str, Any]:
        return fact | {"copy": number}

    story = [submitted("t", replicas=2), copy(0, assigned("t", 1, "a")), copy(1, assigned("t", 1, "b"))]
    assert task(ledger(*story[:2]))["state"] == "waiting"
    assert task(ledger(*story))["state"] == "assigned"
    assert task(ledger(*story))["cost_usd_per_hour"] == 48.0
    story.append(copy(0, happened("t", "running", 1)))
    assert task(ledger(*story))["state"] == "assigned"
    story.append(copy(1, happened("t", "running", 1)))
    assert task(ledger(*story))["state"] == "running"
    story.append(copy(0, happened("t", "succeeded", 1)))
    assert task(ledger(*story))["state"] == "running"
    assert task(ledger(*story))["cost_usd_per_hour"] == 24.0
    assert placements(ledger(*story))["t", 0]["state"] == "succeeded"
    story.append(copy(1, happened("t", "lost", 2)))
    assert task(ledger(*story))["state"] == "waiting"
    story.append(copy(1, happened("t", "succeeded", 2)))
    assert task(ledger(*story))["state"] == "succeeded"
    assert placements(ledger(*story)) == {}


def test_an_ended_task_may_be_submitted_anew() -> None:
    rows = ledger(submitted("t"), assigned("t", 1), happened("t", "succeeded", 1), submitted("t", priority=3))
    assert (task(rows)["state"], task(rows)["priority"], task(rows)["regions"]) == ("waiting", 3, [])


def test_rows_are_folded_once_and_in_the_order_of_the_ledger() -> None:
    first = ledger(submitted("t"), assigned("t", 1), batch_id=7, driver_epoch=1)
    second = ledger(happened("t", "revoked", 2), batch_id=0, driver_epoch=2)
    assert task(pa.concat_tables([second, first]))["state"] == "waiting"
    fold = LedgerFold()
    fold.fold(first)
    fold.fold(second)
    assert fold.position == Position(2, 0, 0)
    again = fold.fold(first)
    assert (again.tasks.num_rows, again.placements.num_rows, again.released.num_rows) == (0, 0, 0)


def test_only_what_changed_is_given_back_with_the_tables_own_schemas() -> None:
    fold = LedgerFold()
    fold.fold(ledger(submitted("t"), assigned("t", 1), submitted("u")))
    changes = fold.fold(ledger(happened("t", "running", 1), batch_id=1))
    assert changes.tasks.column("task_id").to_pylist() == ["t"]
    assert changes.placements.column("state").to_pylist() == ["running"]
    changes = fold.fold(ledger(happened("t", "succeeded", 1), batch_id=2))
    assert changes.released.to_pylist() == [{"task_id": "t", "copy": 0}]
    assert len(fold) == 1
    assert changes.tasks.schema == TASKS.schema
    assert changes.placements.schema == PLACEMENTS.schema


def test_an_unknown_transition_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'exploded' is none of submitted, updated"):
        fold_ledger(ledger(submitted("t"), happened("t", "exploded")))


@pytest.mark.parametrize(("replicas", "state"), [(1, "succeeded"), (2, "succeeded"), (3, "waiting")])
def test_an_update_counts_how_many_copies_have_succeeded_and_not_which(replicas: int, state: str) -> None:
    rows = ledger(
        submitted("t", replicas=3),
        *(assigned("t", copy=copy, epoch=1 + copy, region="abc"[copy]) for copy in range(3)),
        *(happened("t", "succeeded", copy=copy, epoch=1 + copy, region="abc"[copy]) for copy in (1, 2)),
        happened("t", "revoked", copy=0, epoch=4, region="a"),
        {**submitted("t", replicas=replicas), "transition": "updated"},
    )
    assert task(rows)["state"] == state


def test_texts_that_grow_with_the_number_of_tasks_are_sorted_and_taken_beyond_two_gibibytes() -> None:
    assert {table.name: table.schema.field("request").type for table in (DECISIONS, TASKS)} == {
        "decisions": pa.large_string(),
        "tasks": pa.large_string(),
    }
    chunk = pa.array(["x" * 1_000_000] * 40)  # one chunk of 40 MB, 58 times: 2.3 GB of text that take no memory
    narrow = pa.table({"request": pa.chunked_array([chunk] * 58)})
    with pytest.raises(pa.ArrowInvalid, match="offset overflow"):
        narrow.take(list(range(narrow.num_rows)))
    assert not {pa.string(), pa.binary(), pa.string_view()} & set(wide_text(narrow.slice(0, 3)).schema.types)


def test_nodes_are_read_chunk_by_chunk() -> None:
    chunk = pa.array(["n" * 1_000_000] * 40)
    shares = pa.StructArray.from_arrays([chunk], names=["node_id"])
    nodes = pa.ListArray.from_arrays(pa.array([0, 40], pa.int32()), shares)
    rows = pa.table(
        {
            "transition": pa.chunked_array([pa.array(["waiting"])] * 57 + [pa.array(["assigned"])]),
            "nodes": pa.chunked_array([nodes] * 58),
        }
    )
    assert folds._nodes_of_assigned(rows).keys() == {57}


def test_what_has_ended_is_not_held() -> None:
    """Nothing could release it: `place` says of it that it has ended."""
    held = (submitted("t"), assigned("t", 1), happened("t", "held"))
    assert task(ledger(*held))["held"]
    assert not task(ledger(*held, happened("t", "succeeded", 1)))["held"]
    assert not task(ledger(*held, happened("t", "cancelled")))["held"]
