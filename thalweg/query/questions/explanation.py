"""What is said of a task: where its copies are and where else they could be, or why it waits."""

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from thalweg.query.questions.task_worth import TaskWorth

if TYPE_CHECKING:
    from thalweg.scheduling.explain.reasons import Option, Remedy
    from thalweg.scheduling.explain.start_estimate import StartEstimate

MONEY: Final = ("compute_usd", "egress_usd", "stall_usd", "latency_usd", "risk_usd", "move_usd")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedCopy:
    """A copy where it is, and where else it could be now."""

    copy: int
    region: str
    pool_id: str
    state: str
    cost_usd_per_hour: float | None
    chosen_usd: dict[str, float | None]
    """By component, as the ledger recorded it when it was decided."""
    here_now_usd: float | None
    """What the same region would cost now; None where it could not be placed there again."""
    next_best: "Option | None"
    options: "list[Option]"
    """Every region now, this copy's own room counted as free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Why a task waits."""

    recorded: str | None
    """As the last plan that considered it put it."""
    now: str | None
    """As a plan would put it now; None when it would be placed."""
    options: "list[Option]"
    remedies: "list[Remedy]"
    start: "StartEstimate | None"
    """Hours from now, inf for never, None where it cannot be told (`scheduling.explain.reasons`)."""
    ways: list[str] = field(default_factory=list)
    """What would let it in where it stands in front of the planner's queue."""
    cancelled_after_s: float | None = None
    """It is cancelled when a parent has been missing for so long; None where none is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything there is to say about a task."""

    task: dict[str, Any]
    placed: list[PlacedCopy]
    waits: Waits | None
    history: list[dict[str, Any]]
    unread: list[str]
    """Fields of its request that nobody reads, each with what was probably meant."""
    unknown_regions: list[str] = field(default_factory=list)
    """Regions that its request names and that no table knows, each with the one that was probably meant."""
    value: TaskWorth | None = None
    """What an hour's delay of it costs; None of one that has ended, and of an array."""


def as_document(explanation: Explanation) -> dict[str, Any]:
    """Give an explanation as plain values."""
    document: dict[str, Any] = msgspec.to_builtins(explanation, builtin_types=(datetime,))
    if document["waits"] and document["waits"]["start"]:
        # JSON knows no infinity: null is "never, as things stand".
        document["waits"]["start"] = {
            name: hours if math.isfinite(hours) else None for name, hours in document["waits"]["start"].items()
        }
    for place in (*document["placed"], document["waits"] or {}):
        if "options" in place:
            place["options"] = list(map(_plain_option, place["options"]))
        if place.get("next_best"):
            place["next_best"] = _plain_option(place["next_best"])
    return document


def _plain_option(option: dict[str, Any]) -> dict[str, Any]:
    best = option["best"]
    if best is None:
        return {"region": option["region"], "usd": None, "reason": option["reason"]}
    return {"region": option["region"], "pool_id": best["pool_id"], "usd": best["usd"], **best["money"]}
