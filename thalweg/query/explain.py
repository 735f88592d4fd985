"""Explain one task from the tables: what was chosen and what else there was, or why it waits and what would change it.

The world is read as the place job reads it; which regions are open is told by their samples, since heartbeats are in no
table: one whose newest sample is older than the newest of all by more than the heartbeat timeout is taken for lost.
"""

import math
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from thalweg.conf.settings import Place
from thalweg.jobs.placement.settings import plan_settings, tenants_of
from thalweg.query.as_of import AsOf
from thalweg.query.query import query, quote
from thalweg.query.sql_statement import QueryRefusedError
from thalweg.scheduling.explain.reasons import Explainer, Option, Remedy
from thalweg.scheduling.explain.start_estimate import StartEstimate
from thalweg.scheduling.world.tasks import Change, Share, TaskState, Transition, sized
from thalweg.scheduling.world.world import World
from thalweg.streams.placement.requests import read_spec
from thalweg.sync.delta.contracts import LINKS, NODES, PRICES, TableContract
from thalweg.sync.tables.world_tables import node_facts

MONEY: Final = ("compute_usd", "egress_usd", "stall_usd", "latency_usd", "risk_usd", "move_usd")
_NAN: Final = float("nan")
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
    start: StartEstimate
    """Hours from now; running times are taken to scatter as `scheduling.explain.start_estimate` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything there is to say about a task."""

    task: dict[str, Any]
    placed: list[PlacedCopy]
    waits: Waits | None
    history: list[dict[str, Any]]


def explain_task(task_id: str, warehouse: str, as_of: AsOf | None, settings: Place, now: datetime) -> Explanation:
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
        raise QueryRefusedError(f"there is no task {task_id!r}{hint}. List them: thalweg tasks")
    (task,) = found
    copies = rows(f"SELECT * FROM placements WHERE task_id = {quote(task_id)} ORDER BY copy")
    live = task["state"] in (TaskState.WAITING, TaskState.ASSIGNED, TaskState.RUNNING)
    if not live:
        return Explanation(task=task, placed=[], waits=None, history=history)
    snapshot = _Snapshot(task_id, warehouse, as_of, settings, now)
    if task_id not in snapshot.world.tasks:
        return Explanation(task=task, placed=[], waits=None, history=history)
    placed = [_placed(copy, copies, history, snapshot) for copy in copies if copy["state"] != "succeeded"]
    waits = _waits(task, snapshot) if task["state"] == TaskState.WAITING else None
    return Explanation(task=task, placed=placed, waits=waits, history=history)


class _Snapshot:
    """The world as the planner knows it, made from the tables."""

    def __init__(self, task_id: str, warehouse: str, as_of: AsOf | None, settings: Place, now: datetime) -> None:
        self._warehouse = warehouse
        self._as_of = as_of
        self.now_ms = int(now.timestamp() * 1_000)
        self._heartbeat_timeout_ms = settings.heartbeat_timeout_ms
        self._nodes = self._read(NODES)
        self.world = World()
        for region in self._open_regions():
            self.world.hear(region, self.now_ms)
        self.world.set_nodes(node_facts(self._nodes, settings.node_timeout_ms))
        self.world.set_links(
            {
                (row["region"], row["dst_region"]): (
                    _number(row["rtt_ms"]),
                    _number(row["gbps"]),
                    _number(row["usd_per_gb"]),
                )
                for row in self._rows(f"SELECT * FROM {LINKS.name}")
            }
        )
        self.world.set_prices(
            {
                (row["region"], row["gpu_model"], row["spot"]): row["usd_per_gpu_hour"]
                for row in self._rows(f"SELECT * FROM {PRICES.name}")
                if row["usd_per_gpu_hour"] is not None
            }
        )
        self.world.set_tenants(tenants_of(settings))
        self._put_tasks(task_id)
        self.explainer = Explainer(self.world, replace(plan_settings(settings), fair_share=False))

    def _put_tasks(self, task_id: str) -> None:
        """Put every placed copy where it is, and the most urgent of what waits into the queue."""
        for row in self._rows(
            "SELECT task_id, submitted_at, request FROM tasks WHERE task_id IN (SELECT task_id FROM placements)"
            f" OR task_id = {quote(task_id)}"
        ):
            self._submit(row)
        for row in self._rows(
            "SELECT task_id, submitted_at, request FROM tasks WHERE state = 'waiting'"
            f" ORDER BY priority DESC, submitted_at LIMIT {MOST_WAITING}"
        ):
            self._submit(row)
        for row in self._rows(
            "SELECT task_id, copy, epoch, state, region, pool_id, nodes, cost_usd_per_hour, assigned_at"
            " FROM placements ORDER BY task_id, copy"
        ):
            placed = Transition(
                change=Change.ASSIGNED,
                task_id=row["task_id"],
                decided_ms=_ms(row["assigned_at"]),
                copy=row["copy"],
                epoch=row["epoch"],
                region=row["region"],
                pool_id=row["pool_id"],
                usd_per_hour=row["cost_usd_per_hour"],
                shares=tuple(
                    Share(**{**share, "devices": tuple(share["devices"] or ())}) for share in row["nodes"] or ()
                ),
            )
            self.world.apply(placed)
            if row["state"] == "succeeded":
                self.world.apply(replace(placed, change=Change.SUCCEEDED))

    def _submit(self, row: dict[str, Any]) -> None:
        self.world.apply(
            Transition(
                change=Change.SUBMITTED,
                task_id=row["task_id"],
                decided_ms=_ms(row["submitted_at"]),
                spec=read_spec(row["request"]),
                request=row["request"],
            )
        )

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        return query(sql, self._warehouse, self._as_of).dicts()  # pyarrow would import pandas for a timestamp

    def _open_regions(self) -> list[str]:
        newest: dict[str, datetime] = {}
        for row in self._rows(f"SELECT region, max(observed_at) AS seen FROM {NODES.name} GROUP BY region"):
            newest[row["region"]] = row["seen"]
        if not newest:
            return []
        last = max(newest.values())
        timeout_s = self._heartbeat_timeout_ms / 1_000
        return sorted(region for region, seen in newest.items() if (last - seen).total_seconds() <= timeout_s)

    def _read(self, contract: TableContract) -> pa.Table:
        return query(f"SELECT * FROM {contract.name}", self._warehouse, self._as_of).rows.cast(contract.schema)


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
        now=wait.reason,
        options=snapshot.explainer.options(task.spec, now_ms, taken=[copy.region for copy in task.copies.values()]),
        remedies=list(wait.remedies),
        start=wait.start,
    )


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)


def _number(value: float | None) -> float:
    return _NAN if value is None else value


def as_document(explanation: Explanation) -> dict[str, Any]:
    """Give an explanation as plain values."""
    document = asdict(explanation)
    if document["waits"]:
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
