"""The words for what keeps a task in front of the planner's queue; they need nothing of the planner."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from thalweg.scheduling.ids import TaskId

HELD: Final = "held: by request"
_NAMED: Final = 3
"""Parents that are named in a reason."""


def parents_in_words(parents: Sequence[TaskId], state_of: Callable[[TaskId], str | None]) -> str:
    """Name parents and how far each is.

    Args:
        parents: who is waited for, ordered.
        state_of: gives the state of one; None for one that nobody has submitted.
    """

    def how_far(name: TaskId) -> str:
        state = state_of(name)
        return "which nobody has submitted yet" if state is None else f"which is {state}"

    named = [f"{name}, {how_far(name)}" for name in parents[:_NAMED]]
    more = len(parents) - len(named)
    return f"parents: waits for {'; '.join(named)}" + (f"; and {more} more" if more else "")


def moment_words(at_ms: int) -> str:
    """Name the moment before which a task does not start."""
    return f"time: not before {datetime.fromtimestamp(at_ms / 1_000, UTC):%Y-%m-%d %H:%M:%S} UTC"
