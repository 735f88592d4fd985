"""Explain one task from the tables: what was chosen and what else there was, or why it waits and what would change it.

The world is read as the place job reads it; which regions are open is told by their samples, since heartbeats are in no
table: one whose newest sample is older than the newest of all by more than the heartbeat timeout is taken for lost.
"""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from conf.settings import Place
from scheduling.counterfactual import Option, Remedy, options, place_alone, remedies
from scheduling.micro_batch import PlanSettings
from scheduling.model import Weights
from scheduling.tasks import Change, Share, TaskSpec, TaskState, Transition
from scheduling.world import World
from streams.requests import read_spec
from sync.tables import LINKS, NODES, PRICES, TableContract
from sync.world_tables import node_facts
from thalweg.as_of import AsOf
from thalweg.query import query, quote
from thalweg.sql_statement import QueryRefusedError

MONEY: Final = ("compute_usd", "egress_usd", "stall_usd", "latency_usd", "risk_usd", "move_usd")
_NAN: Final = float("nan")


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
class Wait:
    """Why a task waits."""

    recorded: str | None
    """As the last plan that considered it put it."""
    now: str | None
    """As a plan would put it now; None when it would be placed."""
    options: list[Option]
    remedies: list[Remedy]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything there is to say about a task."""

    task: dict[str, Any]
    placed: list[PlacedCopy]
    waits: Wait | None
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
    snapshot = _Snapshot(warehouse, as_of, settings, now)
    spec = read_spec(task["request"])
    placed = [_placed(copy, copies, spec, history, snapshot) for copy in copies if copy["state"] != "succeeded"]
    waits = _waits(task, copies, spec, snapshot) if task["state"] == TaskState.WAITING else None
    return Explanation(task=task, placed=placed, waits=waits, history=history)


class _Snapshot:
    """The tables as the planner needs them; each world is made when it is asked for."""

    def __init__(self, warehouse: str, as_of: AsOf | None, settings: Place, now: datetime) -> None:
        self._warehouse = warehouse
        self._as_of = as_of
        self._now_ms = int(now.timestamp() * 1_000)
        self.now_ms = self._now_ms
        self._nodes = self._read(NODES)
        self._links = self._read(LINKS).to_pylist()
        self._prices = self._read(PRICES).to_pylist()
        self._node_timeout_ms = settings.node_timeout_ms
        self._heartbeat_timeout_ms = settings.heartbeat_timeout_ms
        weights = settings.weights
        self.plan_settings = PlanSettings(
            strategy=settings.strategy,
            weights=Weights(rtt=weights.rtt, risk=weights.risk, move=0.0, balance=weights.balance),
            wait_usd=weights.wait,
        )
        self.regions = sorted(set(self._nodes.column("region").to_pylist()))

    def world(self, *, without: tuple[str, int | None] | None = None, empty: bool = False) -> World:
        """Make the world with its placements, but for one copy (task id, copy) or one task's (task id, None)."""
        world = World()
        for region in self._open_regions():
            world.hear(region, self._now_ms)
        world.set_nodes(node_facts(self._nodes, self._node_timeout_ms))
        world.set_links(
            {
                (row["region"], row["dst_region"]): (
                    _number(row["rtt_ms"]),
                    _number(row["gbps"]),
                    _number(row["usd_per_gb"]),
                )
                for row in self._links
            }
        )
        world.set_prices(
            {
                (row["region"], row["gpu_model"], row["spot"]): row["usd_per_gpu_hour"]
                for row in self._prices
                if row["usd_per_gpu_hour"] is not None
            }
        )
        if not empty:
            self._put_placements(world, without)
        return world

    def _put_placements(self, world: World, without: tuple[str, int | None] | None) -> None:
        placed: dict[str, list[dict[str, Any]]] = {}
        for row in query(
            "SELECT p.task_id, p.copy, p.epoch, p.region, p.pool_id, p.nodes, t.request FROM placements p"
            " JOIN tasks t ON p.task_id = t.task_id WHERE p.state <> 'succeeded' ORDER BY p.task_id, p.copy",
            self._warehouse,
            self._as_of,
        ).dicts():
            if without is None or row["task_id"] != without[0] or without[1] not in (None, row["copy"]):
                placed.setdefault(row["task_id"], []).append(row)
        for task_id, copies in placed.items():
            # As many copies as are placed: a task that waits for one more must not be planned here.
            spec = replace(read_spec(copies[0]["request"]), replicas=len(copies))
            submitted = Transition(
                change=Change.SUBMITTED,
                task_id=task_id,
                decided_ms=self._now_ms,
                spec=spec,
                request=copies[0]["request"],
            )
            world.apply(submitted)
            for row in copies:
                world.apply(
                    replace(
                        submitted,
                        change=Change.ASSIGNED,
                        copy=row["copy"],
                        epoch=row["epoch"],
                        region=row["region"],
                        pool_id=row["pool_id"],
                        shares=tuple(
                            Share(**{**share, "devices": tuple(share["devices"] or ())}) for share in row["nodes"] or ()
                        ),
                    )
                )

    def _open_regions(self) -> list[str]:
        newest: dict[str, datetime] = {}
        for region, seen in zip(
            self._nodes.column("region").to_pylist(), self._nodes.column("observed_at").to_pylist(), strict=True
        ):
            newest[region] = max(newest.get(region, datetime.min.replace(tzinfo=UTC)), seen)
        if not newest:
            return []
        last = max(newest.values())
        timeout_s = self._heartbeat_timeout_ms / 1_000
        return sorted(region for region, seen in newest.items() if (last - seen).total_seconds() <= timeout_s)

    def _read(self, contract: TableContract) -> pa.Table:
        return query(f"SELECT * FROM {contract.name}", self._warehouse, self._as_of).rows.cast(contract.schema)


def _placed(
    copy: dict[str, Any],
    copies: list[dict[str, Any]],
    spec: TaskSpec,
    history: list[dict[str, Any]],
    snapshot: _Snapshot,
) -> PlacedCopy:
    (chosen,) = [
        row
        for row in history
        if (row["transition"], row["copy"], row["epoch"]) == ("assigned", copy["copy"], copy["epoch"])
    ][-1:] or [dict.fromkeys(MONEY)]
    others = {other["region"] for other in copies if other["copy"] != copy["copy"]}
    free = [region for region in snapshot.regions if region not in others]
    world = snapshot.world(without=(copy["task_id"], copy["copy"]))
    found = options(world, spec, free, snapshot.plan_settings, snapshot.now_ms)
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


def _waits(task: dict[str, Any], copies: list[dict[str, Any]], spec: TaskSpec, snapshot: _Snapshot) -> Wait:
    taken = {copy["region"] for copy in copies}
    open_ = [region for region in snapshot.regions if region not in taken]
    missing = replace(
        spec,
        replicas=spec.replicas - len(copies),
        allowed_regions=tuple(region for region in (spec.allowed_regions or snapshot.regions) if region not in taken)
        if taken
        else spec.allowed_regions,
    )
    world, settings, now_ms = snapshot.world(), snapshot.plan_settings, snapshot.now_ms
    alone = place_alone(world, missing, settings, now_ms)
    return Wait(
        recorded=task["reason"],
        now=alone if isinstance(alone, str) else None,
        options=options(world, missing, open_, settings, now_ms),
        remedies=remedies(world, snapshot.world(empty=True), missing, settings, now_ms),
    )


def _number(value: float | None) -> float:
    return _NAN if value is None else value


def as_document(explanation: Explanation) -> dict[str, Any]:
    """Give an explanation as plain values."""
    document = asdict(explanation)
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
