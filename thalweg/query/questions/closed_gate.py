"""Why a task stands in front of the planner's queue, from rows alone: it is held, or waits for parents or a moment.

Nothing of the planner is needed to say that, and loading it would take most of the answer's time. Elements of arrays
are left to who knows the world: their turn depends on the others.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from thalweg.scheduling.decisions.gate_words import HELD, moment_words, parents_in_words
from thalweg.scheduling.ids import TaskId
from thalweg.streams.contract.messages import After, TaskRequest

LIVE: Final = ("waiting", "assigned", "running")

StatesOf = Callable[[Sequence[str]], Mapping[str, str]]
"""Gives the states of tasks, of those that there are."""

MetOf = Callable[[Collection[str]], Collection[str]]
"""Gives those of its living parents that have met its condition before they began anew."""


def read_request(raw: str) -> TaskRequest:
    """Read a stored request, which was checked before."""
    return msgspec.json.decode(raw, type=TaskRequest)


def parents_of(request: TaskRequest) -> list[TaskId]:
    """Name whom a task waits for."""
    return [TaskId(named.task_id if isinstance(named, After) else named) for named in request.after]


def may_be_closed(row: Mapping[str, Any], request: TaskRequest, now_ms: int) -> bool:
    """Tell whether it is worth asking `closed_gate`, which wants more rows."""
    closes = row["held"] or request.after or (request.not_before or 0) > now_ms
    return row["state"] == LIVE[0] and request.array is None and bool(closes)


def closed_gate(
    row: Mapping[str, Any],
    request: TaskRequest,
    history: Sequence[Mapping[str, Any]],
    states_of: StatesOf,
    met_of: MetOf,
    now_ms: int,
) -> str | None:
    """Say what keeps a waiting task from the queue; None where nothing does, or where that takes the world to tell.

    Args:
        row: its row of `tasks`.
        request: what it asks for; it is no array.
        history: its rows of the ledger.
        states_of: asks for its parents.
        met_of: asks which of those that live have ended before.
        now_ms: the moment.
    """
    if row["held"]:
        return HELD
    after = parents_of(request)
    states = states_of(after) if after else {}
    # One that has ended has met the condition: else this one would have ended with it.
    unmet = {name for name in after if states.get(name, LIVE[0]) in LIVE}
    if unmet := unmet - set(met_of(unmet & states.keys())):
        return parents_in_words(sorted(unmet), states.get)
    opens_ms = request.not_before or 0
    # After a failure it may be its next try that is waited for.
    if opens_ms > now_ms and not any(one["transition"] == "failed" for one in history):
        return moment_words(opens_ms)
    return None
