"""When a parent that nobody submits is waited for no longer."""

from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.liveness.awaited import AwaitedParents

CHILD, OTHER, PARENT = TaskId("child"), TaskId("other"), TaskId("parent")
WAITS = {CHILD: PARENT}


def test_a_child_is_overdue_when_its_time_is_over_and_all_of_it_is_read() -> None:
    awaited = AwaitedParents(patience_ms=10)
    assert awaited.overdue(WAITS, 100, 100) == {}
    assert awaited.overdue(WAITS, 200, 109) == {}, "what was written since is not read"
    assert awaited.overdue(WAITS, 201, None) == {}
    assert awaited.overdue(WAITS, 202, 110) == WAITS


def test_each_child_has_its_own_time_and_who_has_stopped_waiting_begins_anew() -> None:
    awaited = AwaitedParents(patience_ms=10)
    awaited.overdue(WAITS, 100, 100)
    both = {**WAITS, OTHER: PARENT}
    assert awaited.overdue(both, 105, 105) == {}
    assert awaited.overdue(both, 112, 112) == WAITS
    assert awaited.overdue({}, 113, 113) == {}
    assert awaited.overdue(both, 114, 114) == {}
