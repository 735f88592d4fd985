"""Explain one task from the tables: what was chosen and what else there was, or why it waits and what would change it.

The world is read as the place job reads it; which regions are open is told by their samples, since heartbeats are in no
table: one whose newest sample is older than the newest of all by more than the heartbeat timeout is taken for lost.
"""

import json
import math
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from thalweg.conf.settings import PlaceSettings
from thalweg.jobs.placement.settings import assumed_price, plan_settings, tenants_of
from thalweg.query.as_of import AsOf
from thalweg.query.query import query, quote
from thalweg.query.sql_statement import QueryRefusedError
from thalweg.scheduling.explain.reasons import Explainer, Option, Remedy
from thalweg.scheduling.explain.start_estimate import StartEstimate
from thalweg.scheduling.ids import RegionId
from thalweg.scheduling.world.making import world_from
from thalweg.scheduling.world.tasks import TaskState, sized
from thalweg.streams.contract.messages import TaskRequest
from thalweg.streams.contract.unknown_fields import unknown_fields
from thalweg.streams.placement.requests import read_spec
from thalweg.sync.ledger.short_story import PLACEMENT_COLUMNS, TASK_COLUMNS, short_story
from thalweg.sync.tables.world_tables import world_facts

MONEY: Final = ("compute_usd", "egress_usd", "stall_usd", "latency_usd", "risk_usd", "move_usd")
_TASKS: Final = ", ".join(TASK_COLUMNS)
_PLACEMENTS: Final = ", ".join(PLACEMENT_COLUMNS)
MOST_WAITING: Final = 5_000
"""Waiting tasks read to tell who is served before: more would only make the answer late."""


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
    next_best: Option | None
    options: list[Option]
    """Every region now, this copy's own room counted as free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Why a task waits."""

    recorded: str | None
    """As the last plan that considered it put it."""
    now: str | None
    """As a plan would put it now; None when it would be placed."""
    options: list[Option]
    remedies: list[Remedy]
    start: StartEstimate | None
    """Hours from now, inf for never, None where it cannot be told (`scheduling.explain.reasons`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything there is to say about a task."""

    task: dict[str, Any]
    placed: list[PlacedCopy]
    waits: Waits | None
    history: list[dict[str, Any]]
    unread: list[str]
    """Fields of its request that nobody reads, each with what was probably meant."""


def explain_task(
    task_id: str, warehouse: str, as_of: AsOf | None, settings: PlaceSettings, now: datetime
) -> Explanation:
    """Explain a task.

    Raises:
        QueryRefusedError: there is no such task.
    """

    def rows(sql: str) -> list[dict[str, Any]]:
        return query(sql, warehouse, as_of).dicts()

    found = rows(f"SELECT * FROM tasks WHERE task_id = {quote(task_id)}")
    history = rows(
        "SELECT decided_at, transition, copy, epoch, attempt, region, pool_id, cost_usd_per_hour, "
        f"{', '.join(MONEY)}, reason, plan_id FROM decisions WHERE task_id = {quote(task_id)}"
        " ORDER BY driver_epoch, batch_id, row"
    )
    if not found:
        hint = "; the ledger knows it, the table follows within seconds" if history else ""
        refused = "" if history else f"; if its request was refused: thalweg refused --task {task_id}"
        raise QueryRefusedError(f"there is no task {task_id!r}{hint}{refused}. List them: thalweg tasks")
    (task,) = found
    copies = rows(f"SELECT * FROM placements WHERE task_id = {quote(task_id)} ORDER BY copy")
    live = task["state"] in (TaskState.WAITING, TaskState.ASSIGNED, TaskState.RUNNING)
    nothing = Explanation(task=task, placed=[], waits=None, history=history, unread=_unread(task["request"]))
    if not live:
        return nothing
    snapshot = _Snapshot(task_id, warehouse, as_of, settings, now)
    if task_id not in snapshot.world.tasks:
        return nothing
    placed = [_placed(copy, copies, history, snapshot) for copy in copies if copy["state"] != "succeeded"]
    waits = _waits(task, snapshot) if task["state"] == TaskState.WAITING else None
    return replace(nothing, placed=placed, waits=waits)


def _unread(request: str | None) -> list[str]:
    try:
        content = json.loads(request or "{}")
    except ValueError:
        return []
    return list(map(str, unknown_fields(content, TaskRequest))) if isinstance(content, dict) else []


class _Snapshot:
    """The world as the planner knows it, made from the tables."""

    def __init__(
        self, task_id: str, warehouse: str, as_of: AsOf | None, settings: PlaceSettings, now: datetime
    ) -> None:
        self._warehouse = warehouse
        self._as_of = as_of
        self.now_ms = int(now.timestamp() * 1_000)
        self.world = world_from(
            world_facts(self._query, settings.node_timeout_ms),
            short_story(self._tasks(task_id), self._rows(f"SELECT {_PLACEMENTS} FROM placements"), read_spec),
            self.now_ms,
            heard=self._open_regions(settings.heartbeat_timeout_ms),
            tenants=tenants_of(settings),
        )
        self.world.assume_price(assumed_price(settings))
        self.explainer = Explainer(self.world, replace(plan_settings(settings), fair_share=False))

    def _tasks(self, task_id: str) -> list[dict[str, Any]]:
        """Read the task, every one that holds something, and the most urgent of what waits."""
        holding = self._rows(
            f"SELECT {_TASKS} FROM tasks WHERE task_id IN (SELECT task_id FROM placements)"
            f" OR task_id = {quote(task_id)}"
        )
        waiting = self._rows(
            f"SELECT {_TASKS} FROM tasks WHERE state = 'waiting'"
            f" ORDER BY priority DESC, submitted_at LIMIT {MOST_WAITING}"
        )
        return list({row["task_id"]: row for row in (*holding, *waiting)}.values())

    def _open_regions(self, heartbeat_timeout_ms: int) -> list[RegionId]:
        newest = {
            row["region"]: row["seen"]
            for row in self._rows("SELECT region, max(observed_at) AS seen FROM nodes GROUP BY region")
        }
        last = max(newest.values(), default=None)
        timeout = timedelta(milliseconds=heartbeat_timeout_ms)
        return sorted(region for region, seen in newest.items() if last is not None and last - seen <= timeout)

    def _query(self, sql: str) -> pa.Table:
        return query(sql, self._warehouse, self._as_of).rows

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        return query(sql, self._warehouse, self._as_of).dicts()


def _placed(
    copy: dict[str, Any], copies: list[dict[str, Any]], history: list[dict[str, Any]], snapshot: _Snapshot
) -> PlacedCopy:
    (chosen,) = [
        row
        for row in history
        if (row["transition"], row["copy"], row["epoch"]) == ("assigned", copy["copy"], copy["epoch"])
    ][-1:] or [dict.fromkeys(MONEY)]
    task = snapshot.world.tasks[copy["task_id"]]
    placed = task.copies[copy["copy"]]
    others = [other["region"] for other in copies if other["copy"] != copy["copy"]]
    spec = task.spec if task.spec.min_workers is None else sized(task.spec, placed.workers)
    found = snapshot.explainer.options(spec, snapshot.now_ms, taken=others, instead_of=(task.task_id, placed.index))
    here = next((option.best for option in found if option.region == copy["region"]), None)
    return PlacedCopy(
        copy=copy["copy"],
        region=copy["region"],
        pool_id=copy["pool_id"],
        state=copy["state"],
        cost_usd_per_hour=copy["cost_usd_per_hour"],
        chosen_usd={name: chosen[name] for name in MONEY},
        here_now_usd=here.usd if here else None,
        next_best=next((option for option in found if option.best and option.region != copy["region"]), None),
        options=found,
    )


def _waits(row: dict[str, Any], snapshot: _Snapshot) -> Waits:
    task, now_ms = snapshot.world.tasks[row["task_id"]], snapshot.now_ms
    wait = snapshot.explainer.wait(task, now_ms)
    return Waits(
        recorded=row["reason"],
        # Who refused and for how long is not in the tables, only what the last plan said of it.
        now=wait.reason or (row["reason"] if (row["reason"] or "").startswith("refused:") else None),
        options=snapshot.explainer.options(task.spec, now_ms, taken=[copy.region for copy in task.copies.values()]),
        remedies=list(wait.remedies),
        start=wait.start if wait.reason else None,
    )


def as_document(explanation: Explanation) -> dict[str, Any]:
    """Give an explanation as plain values."""
    document = asdict(explanation)
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
