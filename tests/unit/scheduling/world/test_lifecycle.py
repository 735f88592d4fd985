"""The table of lives: what each change does to a copy in each state, by hand for the kinds that matter."""

import pytest

from thalweg.scheduling.world.lifecycle import HELD, LIVE, RELEASING, begins, state_of, step_of
from thalweg.scheduling.world.tasks import TERMINAL, Change, CopyState, TaskState

OF_COPIES = [Change.ASSIGNED, Change.ACCEPTED, Change.RUNNING, Change.SUCCEEDED, *sorted(RELEASING)]


@pytest.mark.parametrize("change", OF_COPIES)
@pytest.mark.parametrize("copy", sorted(HELD))
def test_what_is_older_than_the_placement_is_ignored_and_what_is_as_new_is_not(change: Change, copy: CopyState) -> None:
    old = step_of(change, 3, None, task=TaskState.RUNNING, copy=copy, placed_epoch=4)
    assert (old.obeyed, old.becomes, old.spends_epoch) == (False, copy, True)
    assert not (old.frees or old.places)
    assert step_of(change, 4, None, task=TaskState.RUNNING, copy=copy, placed_epoch=4).obeyed


@pytest.mark.parametrize("change", Change)
@pytest.mark.parametrize("task", sorted(TERMINAL))
def test_a_task_that_has_ended_obeys_nothing(change: Change, task: TaskState) -> None:
    for copy in CopyState:
        assert not step_of(change, 9, "gave up", task=task, copy=copy).obeyed
    assert begins(change, task) == (change is Change.SUBMITTED)


@pytest.mark.parametrize("change", OF_COPIES)
def test_a_copy_that_succeeded_stays_so(change: Change) -> None:
    step = step_of(change, 9, "gave up", task=TaskState.RUNNING, copy=CopyState.SUCCEEDED)
    assert (step.obeyed, step.becomes, step.ends) == (False, CopyState.SUCCEEDED, None)


@pytest.mark.parametrize("change", Change)
@pytest.mark.parametrize("copy", CopyState)
def test_devices_are_freed_exactly_when_a_copy_leaves_or_changes_its_place(change: Change, copy: CopyState) -> None:
    step = step_of(change, 1, None, task=TaskState.WAITING, copy=copy, placed_epoch=1)
    leaves = copy in HELD and step.becomes not in HELD
    assert step.frees == (leaves or (step.places and copy in HELD))
    assert step.places == (change is Change.ASSIGNED and copy is not CopyState.SUCCEEDED)
    assert (step.becomes in HELD) == (step.places or (copy in HELD and not leaves))


def test_giving_up_ends_a_task_and_other_failures_do_not() -> None:
    def failed(reason: str | None) -> TaskState | None:
        return step_of(Change.FAILED, 1, reason, task=TaskState.RUNNING, copy=CopyState.RUNNING, placed_epoch=1).ends

    assert [failed(reason) for reason in (None, "exit code 1", "gave up after 3 attempts")] == [None, None, "failed"]


def test_a_reason_to_wait_counts_while_the_task_waits() -> None:
    for state in LIVE:
        step = step_of(Change.WAITING, 0, "capacity", task=state, copy=CopyState.RUNNING, placed_epoch=2)
        assert step.obeyed == (state is TaskState.WAITING)
        assert step.becomes is CopyState.RUNNING


def test_only_a_refused_row_does_not_even_spend_its_epoch() -> None:
    spends = {change: step_of(change, 5, None, task=TaskState.WAITING, copy=CopyState.WAITING) for change in Change}
    assert [change for change, step in spends.items() if not step.spends_epoch] == [Change.REFUSED]
    assert not spends[Change.REPAIRED].obeyed


@pytest.mark.parametrize(
    ("replicas", "succeeded", "held", "state"),
    [
        (1, 0, "", "waiting"),
        (2, 0, "r", "waiting"),
        (2, 0, "ra", "assigned"),
        (2, 0, "rc", "assigned"),
        (2, 0, "rr", "running"),
        (2, 1, "r", "running"),
        (2, 1, "", "waiting"),
        (2, 2, "", "succeeded"),
        (1, 2, "a", "succeeded"),
    ],
)
def test_a_task_is_as_far_as_its_least_advanced_copy(replicas: int, succeeded: int, held: str, state: str) -> None:
    words = {"a": CopyState.ASSIGNED, "c": CopyState.ACCEPTED, "r": CopyState.RUNNING}
    assert state_of(None, replicas, succeeded, [words[letter] for letter in held]) == state
    assert state_of(TaskState.CANCELLED, replicas, succeeded, []) is TaskState.CANCELLED
