"""What would let a task in that stands in front of the planner's queue: no change that a plan could try."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from thalweg.scheduling.decisions.array_words import array_in_words, array_of

_UPDATE: Final = "an update of its request"
_START: Final = {
    "held": "none while it is held",
    "parents": "not before its parents have ended",
    "time": "not before that moment",
    "array": "with its array",
    "drained": "not before its place takes tasks again",
}
"""By the first word of what keeps it."""


def start_in_words(gate: str) -> str | None:
    """Say when a task may start that this keeps from the queue; None of what keeps no task from it."""
    return _START.get(gate.partition(":")[0])


def ways_in(
    gate: str,
    task_id: str,
    parents: Sequence[str],
    states: Mapping[str, str],
    counts: Mapping[str, int],
    *,
    alone: bool,
) -> list[str]:
    """Say what would let a task in.

    Args:
        gate: what keeps it, in the words of `gate_words`.
        task_id: of the task; of an element whose array is kept, the array.
        parents: whom it waits for.
        states: of those of them that there are.
        counts: how many elements the arrays have that its missing parents name.
        alone: it is no array and no element of one, which cannot be updated.
    """
    match gate.partition(":")[0]:
        case "held":
            return [f"thalweg release {shlex.quote(task_id)}"]
        case "parents":
            missing = [_comes(name, counts) for name in parents if name not in states]
            return missing + ([f"{_UPDATE} without it"] if alone and len(missing) == 1 else [])
        case "time":
            return [_UPDATE] if alone else []
        case "drained":
            return re.findall("`([^`]+)`", gate)  # none where its region or its cloud has drained it
    return []


def _comes(name: str, counts: Mapping[str, int]) -> str:
    array = array_of(name)
    if array is None or array not in counts:
        return f"{name} is submitted"
    return f"{name} can never come: {array_in_words(array, counts[array])}"
