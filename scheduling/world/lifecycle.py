"""The life of a task and of its copies as one table: what each change does to a copy in each state, and to its task.

Everybody who reads the ledger's rows (the world, the tables `tasks` and `placements`, the replay) asks `step_of` and
keeps only its own books of the answer.

- A task begins with its `submitted` row and ends when it is `cancelled`, given up (`failed` with a reason that starts
  with `GAVE_UP`), or all the copies it asks for have `succeeded`. Ending frees whatever its copies still hold.
- A copy waits until it is `assigned`; then it holds its devices until it has `succeeded` or is released. One that has
  succeeded stays so, whatever is said of it later.
- A task that is held does not start; a copy of it that is placed goes on. Whom it waits for (its parents, a moment,
  its turn in its array) follows from its request and from the ends of others (`scheduling.world.gates`).
- A row about a copy that is older (by epoch) than the copy's placement speaks of a placement that is gone.
- A row that is ignored changes nothing but the highest epoch: a region's fence may have seen it, so that the next
  assignment must be above it. `repaired` rows say nothing else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from thalweg.scheduling.world.tasks import TERMINAL, Change, CopyState, TaskState

GAVE_UP: Final = "gave up"
"""First words of the reason of a failure that is final."""

LIVE: Final = frozenset(TaskState) - TERMINAL
"""States that a task may still leave."""

HELD: Final = frozenset({CopyState.ASSIGNED, CopyState.ACCEPTED, CopyState.RUNNING})
"""States in which a copy holds its devices."""

RELEASING: Final = frozenset({Change.REVOKED, Change.PREEMPTED, Change.LOST, Change.EVICTED, Change.FAILED})
"""Changes that take a copy off its nodes; the copy waits again unless the task has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleStep:
    """What one row does."""

    becomes: CopyState
    obeyed: bool = True
    """False where the row says nothing about what is now; at most its epoch counts."""
    spends_epoch: bool = True
    places: bool = False
    """The copy takes what the row assigns."""
    frees: bool = False
    """What the copy held until now is free (before it takes something else)."""
    accepted: bool = False
    """The copy's region said that it holds it."""
    asks: bool = False
    """The task asks for something else from now on."""
    avoids_region: bool = False
    """The task goes elsewhere first."""
    gave_way: bool = False
    given_back: bool = False
    """The region did not want it: back-off."""
    holds: bool | None = None
    """The task is not to start from now on (True), or may again (False)."""
    ends: TaskState | None = None
    """The task is over, whatever its copies do."""


_MOVES: Final[Mapping[Change, Mapping[CopyState, CopyState]]] = {
    Change.ASSIGNED: dict.fromkeys((CopyState.WAITING, *HELD), CopyState.ASSIGNED),
    Change.ACCEPTED: dict.fromkeys(HELD, CopyState.ACCEPTED),
    Change.RUNNING: dict.fromkeys(HELD, CopyState.RUNNING),
    # Released because its region was silent, it may have run to its end all the same.
    Change.SUCCEEDED: dict.fromkeys((CopyState.WAITING, *HELD), CopyState.SUCCEEDED),
    **dict.fromkeys(RELEASING, dict.fromkeys(HELD, CopyState.WAITING)),
}
"""Changes of a copy, by the states that they move it from; in any other state the row is ignored."""

_OF_THE_TASK: Final = frozenset({Change.UPDATED, Change.CANCELLED, Change.WAITING, Change.HELD, Change.RELEASED})
"""Changes of the task as a whole; no copy moves."""


def _step(change: Change, at: CopyState) -> LifecycleStep:
    moves = _MOVES.get(change, {})
    if at not in moves and change not in _OF_THE_TASK:
        return LifecycleStep(becomes=at, obeyed=False, spends_epoch=change is not Change.REFUSED)
    becomes = moves.get(at, at)
    places = change is Change.ASSIGNED
    return LifecycleStep(
        becomes=becomes,
        places=places,
        frees=at in HELD and (places or becomes not in HELD),
        accepted=change in (Change.ACCEPTED, Change.RUNNING),
        asks=change is Change.UPDATED,
        avoids_region=change in (Change.FAILED, Change.LOST),
        gave_way=change is Change.PREEMPTED,
        given_back=change is Change.EVICTED,
        holds={Change.HELD: True, Change.RELEASED: False}.get(change),
        ends=TaskState.CANCELLED if change is Change.CANCELLED else None,
    )


_STEPS: Final = {(change, at): _step(change, at) for change in Change for at in CopyState}
_FAILED_FOR_GOOD: Final = {
    at: replace(_STEPS[Change.FAILED, at], obeyed=True, ends=TaskState.FAILED) for at in (CopyState.WAITING, *HELD)
}
_IGNORED: Final = {at: _step(Change.REPAIRED, at) for at in CopyState}


def begins(change: Change, state: TaskState | None) -> bool:
    """Whether a row begins a task, given how far one of the same id is: an id whose task has ended may come anew."""
    return change is Change.SUBMITTED and (state is None or state in TERMINAL)


def step_of(
    change: Change, epoch: int, reason: str | None, *, task: TaskState, copy: CopyState, placed_epoch: int = 0
) -> LifecycleStep:
    """Say what a row does to the task it names.

    Args:
        change: of the row, as are epoch and reason.
        epoch: see above.
        reason: see above.
        task: how far the task is.
        copy: how far the copy that the row names is.
        placed_epoch: of the copy's placement, where it is held.
    """
    if task in TERMINAL or (change is Change.WAITING and task is not TaskState.WAITING):
        return _STEPS[Change.REFUSED, copy] if change is Change.REFUSED else _IGNORED[copy]
    if copy in HELD and change in _MOVES and epoch < placed_epoch:
        return _IGNORED[copy]
    if change is Change.FAILED and copy in _FAILED_FOR_GOOD and reason is not None and reason.startswith(GAVE_UP):
        return _FAILED_FOR_GOOD[copy]
    return _STEPS[change, copy]


def state_of(ended: TaskState | None, replicas: int, succeeded: int, held: Iterable[CopyState]) -> TaskState:
    """Tell how far a task is: as far as its least advanced copy that has not succeeded.

    Args:
        ended: how it ended, whatever its copies do; None where it goes on.
        replicas: copies that it asks for. It counts how many have succeeded and not which, so an update to no more
            than those ends it.
        succeeded: copies that have.
        held: states of the copies that are placed.
    """
    if ended is not None:
        return ended
    if succeeded >= replicas:
        return TaskState.SUCCEEDED
    states = list(held)
    if succeeded + len(states) < replicas:
        return TaskState.WAITING
    running = all(state is CopyState.RUNNING for state in states)
    return TaskState.RUNNING if running else TaskState.ASSIGNED
