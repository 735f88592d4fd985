"""Which reports of a task end the waiting for it: those of the epoch that the ledger has given last."""

from thalweg.client.client import OutcomeState, _Followed
from thalweg.streams.contract.messages import AssignmentEvent, StatusEvent


def said(kind: str, region: str, epoch: int) -> StatusEvent:
    return StatusEvent(type=kind, region=region, task_id="t", epoch=epoch)  # type: ignore[arg-type]


def told(kind: str, region: str, epoch: int) -> AssignmentEvent:
    return AssignmentEvent(event_id="e", type=kind, task_id="t", epoch=epoch, region=region)  # type: ignore[arg-type]


def ended(followed: _Followed) -> tuple[OutcomeState, str, int] | None:
    end = followed.end(3)
    return None if end is None else (end[0], end[1].region, end[1].epoch)


def test_a_success_of_an_epoch_that_was_given_up_is_no_end() -> None:
    task = _Followed()
    task.tell(told("assign", "a", 1))
    task.note(said("succeeded", "a", 1))
    assert ended(task) == (OutcomeState.SUCCEEDED, "a", 1)
    task.tell(told("assign", "b", 2))
    assert ended(task) is None
    task.note(said("succeeded", "b", 2))
    task.note(said("succeeded", "a", 1))
    assert ended(task) == (OutcomeState.SUCCEEDED, "b", 2)


def test_a_success_after_a_revocation_is_no_end() -> None:
    task = _Followed()
    task.tell(told("assign", "a", 1))
    task.tell(told("revoke", "a", 2))
    task.note(said("succeeded", "a", 1))
    assert ended(task) is None


def test_of_two_copies_one_that_is_placed_again_does_not_undo_the_other() -> None:
    task = _Followed(copies=2)
    for region, epoch in (("a", 1), ("b", 2)):
        task.tell(told("assign", region, epoch))
    task.note(said("succeeded", "a", 1))
    task.note(said("failed", "b", 2))
    task.tell(told("assign", "c", 3))
    assert ended(task) is None
    task.note(said("succeeded", "c", 3))
    assert ended(task) == (OutcomeState.SUCCEEDED, "c", 3)


def test_reports_count_where_nothing_is_known_of_the_ledgers_words() -> None:
    task = _Followed()
    task.note(said("succeeded", "a", 7))
    assert ended(task) == (OutcomeState.SUCCEEDED, "a", 7)


def test_the_order_of_topics_does_not_matter() -> None:
    task = _Followed()
    task.tell(told("assign", "b", 2))
    task.note(said("succeeded", "a", 1))
    task.tell(told("assign", "a", 1))
    assert ended(task) is None


def test_a_report_of_the_run_before_is_no_end_of_what_was_asked_to_run_again() -> None:
    task = _Followed()
    task.tell(told("assign", "a", 1))
    task.note(said("succeeded", "a", 1))
    task.ask("rerun", 1_000)
    assert ended(task) is None
    task.note(said("succeeded", "a", 1))
    assert ended(task) is None
