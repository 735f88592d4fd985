"""The words of the ledger: what can happen to a task (`Transition`) and what it can be (`TaskState`)."""

from enum import StrEnum
from typing import Final


class Transition(StrEnum):
    """Column `transition` of `decisions`: one thing that happened to a task, or to one of its copies."""

    SUBMITTED = "submitted"
    UPDATED = "updated"
    REFUSED = "refused"
    WAITING = "waiting"
    ASSIGNED = "assigned"
    REVOKED = "revoked"
    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EVICTED = "evicted"
    LOST = "lost"
    CANCELLED = "cancelled"


class TaskState(StrEnum):
    """Column `state` of `tasks`."""

    WAITING = "waiting"
    ASSIGNED = "assigned"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


LIVE: Final = frozenset({TaskState.WAITING, TaskState.ASSIGNED, TaskState.RUNNING})
"""States that a task may still leave."""

RELEASING: Final = frozenset({Transition.REVOKED, Transition.LOST, Transition.EVICTED, Transition.FAILED})
"""Transitions that take a copy off its nodes; the copy waits again unless the task has ended."""

GAVE_UP: Final = "gave up"
"""A `failed` row whose reason starts with this ends its task; after any other the copy is placed again."""
