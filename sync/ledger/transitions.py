"""The ledger's words (`scheduling.world.tasks.Change`) by what they do to a task."""

from typing import Final

from thalweg.scheduling.world.tasks import TERMINAL, Change, TaskState

LIVE: Final = frozenset(TaskState) - TERMINAL
"""States that a task may still leave."""

RELEASING: Final = frozenset({Change.REVOKED, Change.PREEMPTED, Change.LOST, Change.EVICTED, Change.FAILED})
"""Changes that take a copy off its nodes; the copy waits again unless the task has ended."""
