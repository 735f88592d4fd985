"""Lives as the ledger's rows tell them."""

import pytest

from tests.unit.scheduling.worlds import spec
from thalweg.replay.recorded_tasks import RecordedTask, recorded_tasks
from thalweg.scheduling.replay.replay import Ending
from thalweg.scheduling.world.tasks import Change, TaskSpec, Transition


def submitted(wanted: TaskSpec | None = None, change: Change = Change.SUBMITTED) -> Transition:
    return Transition(change=change, task_id="t", decided_ms=0, spec=wanted or spec(), request="{}")


def of_copy(change: Change, epoch: int, at_s: int, region: str = "a") -> Transition:
    return Transition(
        change=change,
        task_id="t",
        decided_ms=at_s * 1_000,
        epoch=epoch,
        region=region,
        pool_id=f"{region}/A100/on-demand",
    )


def lives(*rows: Transition) -> list[RecordedTask]:
    return recorded_tasks([], rows)


@pytest.mark.parametrize("change", [Change.UPDATED, Change.SUBMITTED, Change.REPAIRED, Change.WAITING])
def test_a_row_that_moves_no_copy_ends_no_stay(change: Change) -> None:
    told = submitted(change=change)
    (life,) = lives(submitted(), of_copy(Change.ASSIGNED, 1, 1), told, of_copy(Change.SUCCEEDED, 1, 9))
    (stay,) = life.stays
    assert (stay.ended_ms, stay.ending) == (9_000, Ending.FINISHED)


def test_a_row_of_an_older_epoch_ends_no_stay() -> None:
    (life,) = lives(
        submitted(),
        of_copy(Change.ASSIGNED, 1, 1),
        of_copy(Change.REVOKED, 2, 2),
        of_copy(Change.ASSIGNED, 3, 3, "b"),
        of_copy(Change.FAILED, 1, 4),
        of_copy(Change.SUCCEEDED, 3, 5, "b"),
    )
    assert [(stay.region, stay.ended_ms, stay.ending) for stay in life.stays] == [
        ("a", 2_000, Ending.STOPPED),
        ("b", 5_000, Ending.FINISHED),
    ]


def test_an_update_of_its_needs_begins_another_life() -> None:
    first, second = lives(
        submitted(),
        of_copy(Change.ASSIGNED, 1, 1),
        of_copy(Change.REVOKED, 2, 0),
        submitted(spec(gpus=4), Change.UPDATED),
    )
    assert (first.cancel_ms, second.job_id, second.open) == (0, "t#2", {})
    assert [stay.ending for stay in first.stays] == [Ending.CANCELLED]
