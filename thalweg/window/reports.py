"""What the pages show, a document each, read by the query layer; asked for often within a second, it is read once."""

import asyncio
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import numpy as np

from thalweg.conf.settings import Settings
from thalweg.jobs.placement.settings import tenants_of
from thalweg.query.questions.explain import explain_task
from thalweg.query.questions.explanation import as_document
from thalweg.query.reports.account_report import AccountBy, account_report
from thalweg.query.reports.drained_places import drained_places
from thalweg.query.reports.moved_copies import moved_copies
from thalweg.query.reports.region_report import of_tenant, region_rows
from thalweg.query.reports.saved_now import saved_now
from thalweg.query.reports.sync_report import sync_document
from thalweg.query.reports.task_index import TaskGrouping
from thalweg.query.reports.task_list import TaskFilter
from thalweg.query.reports.task_runs import task_runs
from thalweg.query.sql.query import TableReader, quote
from thalweg.scheduling.counted import counted
from thalweg.scheduling.live.fairshare import entitlements
from thalweg.scheduling.problem.model import GPUS
from thalweg.scheduling.solve.solve import STRATEGIES
from thalweg.scheduling.world.facts import TenantLimits
from thalweg.scheduling.world.orders import read_order_row
from thalweg.scheduling.world.standing import StandingOrders
from thalweg.stack.process_table import process_rows, stack_troubles
from thalweg.stack.state import running_in
from thalweg.sync.clock import Clock
from thalweg.window.foresight import PLANNING
from thalweg.window.refused import RefusedWatch
from thalweg.window.watch import LedgerWatch

_READERS: Final = 4
_FRESH_S: Final = 2.0
"""A report is given again for so long: the tables that it is read from are written no more often."""
_MOST_KEPT: Final = 256
_RAW_BYTES: Final = 2_000
_SAYING: Final = 5
_MEASURED: Final = ("gpu_utilisation", "cpu_utilisation", "memory_used_gb")
_LETTERS_S: Final = 2.0
"""How long a first look waits for the dead-letter topic; the next has more."""
_LINKS: Final = (
    "SELECT region, dst_region, rtt_ms, gbps, usd_per_gb FROM links WHERE region <> dst_region"
    " ORDER BY region, dst_region LIMIT 2000"
)
Document = dict[str, Any]


@dataclass(slots=True)
class _Kept:
    """A document that is made or being made, and the one before it."""

    made: "asyncio.Future[Document]"
    at: float
    former: "asyncio.Future[Document] | None"
    former_at: float

    def is_made(self, made: "asyncio.Future[Document]") -> None:
        self.at = made.get_loop().time()
        self.former = None
        if not made.cancelled():
            made.exception()  # whoever asked is told; if nobody waits any more, nobody is


class Reports:
    """See the module's words. For one event loop; the reading is done by threads of its own."""

    def __init__(
        self, warehouse: str, settings: Settings, watch: LedgerWatch, refused: RefusedWatch, clock: Clock, state: Path
    ) -> None:
        """Prepare.

        Args:
            warehouse: folder or URI.
            settings: whose `place` explains and shares.
            watch: gives the tasks as they are now.
            refused: gives what the jobs could not take.
            clock: milliseconds since 1970.
            state: state folder whose stack's health is told.
        """
        self.warehouse, self._settings, self._watch, self._clock, self._state = warehouse, settings, watch, clock, state
        self._refused = refused
        self._threads = ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="window-read")
        self._kept: dict[object, _Kept] = {}

    def close(self) -> None:
        """End the threads."""
        self._refused.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def now(self) -> datetime:
        """Tell the time."""
        return datetime.fromtimestamp(self._clock() / 1_000, UTC)

    async def read(
        self, key: object, make: Callable[[], Document], fresh_s: float = _FRESH_S, stale_s: float = 0.0
    ) -> Document:
        """Give a document; who asks while it is being made waits for the same.

        Args:
            key: what it is kept by.
            make: makes it, on a thread.
            fresh_s: one that was made so long ago is good.
            stale_s: so is one of so long ago, while a fresh one is being made.
        """
        loop = asyncio.get_running_loop()
        kept = self._kept.get(key)
        if kept is None or (
            kept.made.done() and (loop.time() - kept.at > fresh_s or kept.made.exception() is not None)
        ):
            if len(self._kept) >= _MOST_KEPT:
                self._kept = {name: one for name, one in self._kept.items() if not one.made.done()}
            former = kept.made if kept is not None and kept.made.exception() is None else None
            made = asyncio.ensure_future(loop.run_in_executor(self._threads, make))
            kept = self._kept[key] = _Kept(made, at=loop.time(), former=former, former_at=kept.at if kept else 0.0)
            made.add_done_callback(kept.is_made)
        if not kept.made.done() and kept.former is not None and loop.time() - kept.former_at <= stale_s:
            return kept.former.result()
        return await asyncio.shield(kept.made)

    # Documents

    def overview(self, tenant: str | None) -> Document:
        """Tell what runs, waits and costs now, and how it has been."""
        columns = self._watch.tasks.columns
        groups = columns.group(TaskFilter(tenant=tenant), TaskGrouping.STATE)
        waiting = TaskFilter(tenant=tenant, states=("waiting",))
        return {
            "tasks": sum(row["tasks"] for row in groups),
            "by_state": {row["state"]: row["tasks"] for row in groups},
            "usd_per_hour": sum(row["usd_per_hour"] for row in groups),
            "placed_gpus": sum(row["placed_gpus"] for row in groups),
            "waiting_gpus": sum(row["gpus"] for row in groups if row["state"] == "waiting"),
            "waiting_reasons": columns.waiting_reasons(waiting, _SAYING),
            "samples": [] if tenant is not None else [asdict(sample) for sample in tuple(self._watch.samples)],
        }

    def around(self) -> Document:
        """Tell what there is to run on, and what is unwell."""
        regions = region_rows(self.warehouse, None, self.now())
        gpus = sum(row["gpus"] for row in regions if row["state"] == "heard")
        with TableReader(self.warehouse) as reader:
            states = reader.dicts("SELECT coalesce(state, 'ready') AS state, count(*) AS n FROM nodes GROUP BY 1")
            links = reader.dicts(_LINKS)
        nodes = {row["state"]: row["n"] for row in states}
        return {"regions": regions, "gpus": gpus, "nodes": nodes, "links": links, "unwell": self.unwell(regions)}

    def flows(self) -> Document:
        """Tell between which regions copies have moved of late."""
        with TableReader(self.warehouse) as reader:
            return {"flows": moved_copies(reader, self.now())}

    def unwell(self, regions: list[Document]) -> list[Document]:
        """Name what somebody should look at, the gravest first."""
        found: list[Document] = []

        def say(kind: str, grave: bool, what: str, words: str, page: str) -> None:
            found.append({"kind": kind, "grave": grave, "what": what, "words": words, "page": page})

        if self._watch.trouble:
            say("ledger", True, "ledger", f"the ledger cannot be read: {self._watch.trouble}", "overview")
        for process in self._processes():
            is_again = process["state"] == "starting" and process["restarts"] > 0
            if is_again or process["state"] not in ("ready", "waiting", "starting"):
                state = "is being started again:" if is_again else process["state"]
                words = f"{state} {process['failure'] or 'its log says why'}"
                say("process", process["name"] != "window", process["name"], words, "overview")
        silent = [region for region in regions if region["state"] != "heard"]
        if silent:
            names = ", ".join(region["region"] for region in silent[:_SAYING]) + (", …" if silent[_SAYING:] else "")
            placed = sum(region["running"] + region["assigned"] for region in silent)
            words = f"not heard: {names}; {counted(placed, 'task is', 'tasks are')} placed there"
            say("regions", placed > 0, f"{len(silent)} of {counted(len(regions), 'region')}", words, "regions")
        with TableReader(self.warehouse) as reader:
            hour = f"TIMESTAMP {quote((self.now() - timedelta(hours=1)).isoformat())}"
            rows = reader.dicts(f"SELECT count(*) AS n FROM quarantine WHERE quarantined_at >= {hour}")
            if rows[0]["n"]:
                say(
                    "quarantine",
                    False,
                    "quality",
                    f"{rows[0]['n']:,} samples were quarantined within the hour",
                    "quality",
                )
            gaps = reader.dicts("SELECT count(*) AS n FROM sync_gaps WHERE status = 'open'")
            if gaps[0]["n"]:
                say("gaps", False, "sync", f"{gaps[0]['n']:,} gaps are open", "sync")
            broken = reader.dicts("SELECT region FROM sync_regions WHERE digest_agrees = false")
            if broken:
                say("digests", True, "sync", f"digests differ: {', '.join(row['region'] for row in broken)}", "sync")
        return sorted(found, key=lambda one: not one["grave"])

    def _processes(self) -> list[Document]:
        try:
            folder = running_in(self._state) if self._state.is_dir() else None
            rows = [] if folder is None else process_rows(folder, sample_seconds=0)
            troubles = [] if folder is None else stack_troubles(folder)
        except Exception:  # a state folder of somebody else's is no reason to show nothing
            return []
        return [
            {"name": row.name, "state": row.state, "failure": row.last_failure, "restarts": row.restarts}
            for row in rows
        ] + [
            {"name": trouble.what, "state": f"{trouble.seen};", "failure": trouble.remedy, "restarts": 0}
            for trouble in troubles
        ]

    def regions(self, tenant: str | None = None) -> Document:
        """Tell of each region what it has, and of each link between two; of what is used, one tenant's or all."""
        rows = region_rows(self.warehouse, None, self.now(), tenant)
        with TableReader(self.warehouse) as reader:
            links = reader.dicts(_LINKS)
        return {"regions": rows, "links": links}

    def nodes(self, region: str | None, tenant: str | None = None) -> Document:
        """Tell of the nodes, of one region or of all, how full they are; with a tenant, of what it uses itself."""
        where = "" if region is None else f" WHERE n.region = {quote(region)}"
        with TableReader(self.warehouse) as reader:
            rows = reader.dicts(
                "SELECT n.region, n.node_id, n.gpu_model, n.spot, n.gpus, n.cpus, n.memory_gb, n.gpu_utilisation,"
                " n.cpu_utilisation, n.memory_used_gb, n.state, n.observed_at, coalesce(u.used, 0) AS used_gpus FROM"
                " nodes n LEFT JOIN (SELECT region AS of_region, share['node_id'] AS of_node, sum(share['gpus'] +"
                " share['gpu_milli'] / 1000.0) AS used FROM (SELECT region, unnest(nodes) AS share FROM placements"
                f" WHERE state <> 'succeeded'{of_tenant(tenant)}) GROUP BY region, share['node_id']) u"
                f" ON u.of_region = n.region AND u.of_node = n.node_id{where} ORDER BY n.region, n.node_id LIMIT 5000"
            )
            drained = drained_places(reader)
        for row in rows:
            row["drained"] = row["region"] in drained.regions or (row["region"], row["node_id"]) in drained.nodes
        if tenant is not None:  # what is measured is everybody's
            rows = [{**row, **dict.fromkeys(_MEASURED)} for row in rows]
        return {"nodes": rows}

    def plans(self, limit: int) -> Document:
        """Tell of the newest plans."""
        with TableReader(self.warehouse) as reader:
            return {"plans": reader.dicts(f"SELECT * FROM plans ORDER BY planned_at DESC, batch_id DESC LIMIT {limit}")}

    def tenants(self) -> Document:
        """Tell what each tenant deserves, uses and borrows, by the planner's own rule over GPUs."""
        rows = self._watch.tasks.columns.group(
            TaskFilter(states=("waiting", "assigned", "running")), TaskGrouping.TENANT
        )
        regions = region_rows(self.warehouse, None, self.now())
        capacity = float(sum(row["gpus"] for row in regions if row["state"] == "heard"))
        limits = self._standing().over(tenants_of(self._settings.place))
        known = [limits.get(row["tenant"] or "", TenantLimits()) for row in rows]
        demand = np.zeros((len(rows), GPUS + 1))
        demand[:, GPUS] = [row["gpus"] for row in rows]
        total = np.zeros(GPUS + 1)
        total[GPUS] = capacity
        weights = np.array([one.weight for one in known])
        quotas = np.array([one.quota_gpus for one in known])
        share = entitlements(demand, total, weights, quotas)
        everybody = float(weights.sum()) or 1.0
        return {
            "gpus": capacity,
            "tenants": [
                {
                    **{name: row[name] for name in ("tenant", "tasks", "by_state", "usd_per_hour")},
                    "weight": float(weight),
                    "quota_gpus": _limited(one.quota_gpus),
                    "budget_usd_per_hour": _limited(one.budget_usd_per_hour),
                    "most_tasks": self._settings.place.most_tasks if one.most_tasks is None else one.most_tasks,
                    "wanted_gpus": row["gpus"],
                    "used_gpus": row["placed_gpus"],
                    "share_gpus": capacity * float(weight) / everybody,
                    "deserved_gpus": float(amount),
                    "borrowed_gpus": max(0.0, row["placed_gpus"] - capacity * float(weight) / everybody),
                }
                for row, one, weight, amount in zip(rows, known, weights, share.amount[:, GPUS], strict=True)
            ],
        }

    def sync(self) -> Document:
        """Tell how far each region's replication is."""
        return sync_document(self.warehouse, None, self.now())

    def quality(self) -> Document:
        """Tell what was quarantined and refused within a day, by rule, and the newest with their bytes."""
        since = f"TIMESTAMP {quote((self.now() - timedelta(days=1)).isoformat())}"
        with TableReader(self.warehouse) as reader:
            rules = reader.dicts(
                "SELECT flow, rule, count(*) AS rows, max(quarantined_at) AS newest FROM quarantine WHERE"
                f" quarantined_at >= {since} GROUP BY flow, rule ORDER BY count(*) DESC, rule"
            )
            newest = reader.dicts(
                "SELECT quarantined_at, flow, rule, reason, topic, topic_partition, topic_offset, raw FROM quarantine"
                f" WHERE quarantined_at >= {since} ORDER BY quarantined_at DESC LIMIT 50"
            )
            refused = reader.dicts(
                "SELECT verdict, count(*) AS rows, max(at) AS newest FROM sync_refused"
                f" WHERE at >= {since} GROUP BY verdict ORDER BY count(*) DESC"
            )
        for row in newest:
            row["raw"] = bytes(row["raw"] or b"")[:_RAW_BYTES].decode(errors="replace")
        letters = self._refused.document(_LETTERS_S)
        return {"rules": rules, "newest": newest, "sync_refused": refused, "refused": letters}

    def money(self, by: AccountBy, since: datetime, tenant: str | None, limit: int) -> Document:
        """Tell what tasks have cost since a moment."""
        with TableReader(self.warehouse) as reader:
            found = account_report(reader, by, since, self.now(), tenant=tenant)
            saved = saved_now(reader, tenant=tenant)
        rows = found.rows[-limit:] if by is AccountBy.DAY else found.rows[:limit]
        compared = {**asdict(saved), "saved_usd_per_hour": saved.saved_usd_per_hour}
        return {
            "by": by.value, "since": since, "rows": rows, "in_all": len(found.rows), "total": found.total,
            "compared": compared,
        }  # fmt: skip

    def audit(self, limit: int) -> Document:
        """Tell who did what to the system itself."""
        with TableReader(self.warehouse) as reader:
            return {"audit": reader.dicts(f"SELECT * FROM audit ORDER BY at DESC LIMIT {limit}")}

    def orders(self) -> Document:
        """Tell which orders stand, the newest first."""
        last = {}
        for row in self._ordered():
            told = json.loads(row["ordered"])
            last[told["subject"]] = {"at": row["decided_at"], "what": row["reason"], "who": "", **told}
        standing = [one for one in last.values() if one.get("after") and one["after"]["type"] not in ("move", "asked")]
        return {"orders": sorted(standing, key=lambda one: one["at"], reverse=True)}

    def _standing(self) -> StandingOrders:
        standing = StandingOrders()
        for row in self._ordered():
            standing.obey(read_order_row(row["ordered"]))
        return standing

    def _ordered(self) -> list[dict[str, Any]]:
        """Read the ledger's rows of orders, in their order."""
        with TableReader(self.warehouse) as reader:
            return reader.dicts(
                "SELECT decided_at, reason, ordered FROM decisions WHERE transition = 'ordered'"
                " ORDER BY driver_epoch, batch_id, row"
            )

    def place_settings(self) -> Document:
        """Tell the settings that a plan depends on."""
        place = self._settings.place
        values = {name: attrgetter(name)(place) for name in PLANNING}
        return {"settings": values, "strategies": list(STRATEGIES)}

    def explanation(self, task_id: str) -> Document:
        """Explain a task, as `thalweg explain --json` does. Raises as `query.questions.explain.explain_task`."""
        return as_document(explain_task(task_id, self.warehouse, None, self._settings.place, self.now()))

    def story(self, task_id: str) -> Document | None:
        """Tell a task's life across Kafka, the ledger and its agents; None where nobody knows it."""
        with TableReader(self.warehouse) as reader:
            history = reader.dicts(
                "SELECT decided_at, transition, copy, epoch, attempt, region, pool_id, cost_usd_per_hour, reason,"
                " plan_id, cause, topic, topic_partition, topic_offset, topic_timestamp_ms FROM decisions"
                f" WHERE task_id = {quote(task_id)} ORDER BY driver_epoch, batch_id, row"
            )
            asked = reader.dicts(
                f"SELECT request FROM decisions WHERE task_id = {quote(task_id)} AND request IS NOT NULL"
                " ORDER BY driver_epoch DESC, batch_id DESC, row DESC LIMIT 1"
            )
            rows = reader.dicts(f"SELECT * FROM tasks WHERE task_id = {quote(task_id)}") or reader.dicts(
                f"SELECT * FROM tasks_archive WHERE task_id = {quote(task_id)}"
            )
        runs = task_runs(task_id, self.warehouse)
        shown = self._watch.tasks.columns.states_of([task_id])
        task = shown[0] if shown else (rows[0] if rows else None)
        if task is None and not history:
            return None
        request = next((row["request"] for row in (*asked, *rows) if row["request"]), "{}")
        return {
            "task": {
                name: value
                for name, value in (task or {"task_id": task_id, "state": "unknown"}).items()
                if name != "request"
            },
            "request": json.loads(request),
            "history": history,
            "runs": [asdict(run) for run in runs.ended] if runs is not None else [],
            "placed": [asdict(run) for run in runs.placed] if runs is not None else [],
        }


def _limited(most: float) -> float | None:
    return None if math.isinf(most) else most
