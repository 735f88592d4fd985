"""The world around one task, as the planner knows it, made from the tables, and what the planner says there.

Which regions are open is told by their samples, since heartbeats are in no table: one whose newest sample is older than
the newest of all by more than the heartbeat timeout is taken for lost. Of the other tasks only sums and classes matter,
so they stay columns (`scheduling.world.crowd`).
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from thalweg.jobs.placement.settings import assumed_price, plan_settings, tenants_of
from thalweg.query.questions.explanation import MONEY, PlacedCopy, Waits
from thalweg.query.questions.met_parents import met_parents
from thalweg.query.sql.query import quote
from thalweg.query.sql.reading_ahead import ReadingAhead
from thalweg.scheduling.decisions.start_terms import words_of_gates
from thalweg.scheduling.explain.reasons import Explainer
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.world.crowd_world import world_of_crowd
from thalweg.scheduling.world.orders import read_order_row
from thalweg.scheduling.world.task_book import EXIT
from thalweg.scheduling.world.tasks import Change, TaskSpec, TaskState, sized
from thalweg.streams.placement.many_needs import read_many
from thalweg.streams.placement.task_specs import read_spec
from thalweg.sync.ledger.live_columns import LiveColumns
from thalweg.sync.ledger.live_rows import LIVE_TASKS, NEWEST_SAMPLES, ORDERS, PLACEMENTS
from thalweg.sync.tables.world_tables import world_facts

if TYPE_CHECKING:
    import pyarrow as pa

    from thalweg.conf.place_defaults import PlaceDefaults
    from thalweg.conf.settings import PlaceSettings

MOST_WAITING: Final = 20_000
"""Waiting tasks taken in to tell who is served before: more would only make the answer late."""


class ExplainedWorld:
    """The world, and who explains it."""

    def __init__(
        self, task: dict[str, Any], reader: ReadingAhead, settings: "PlaceSettings | PlaceDefaults", now: datetime
    ) -> None:
        """Make it.

        Args:
            task: its row of `tasks`.
            reader: of the tables.
            settings: of `place`.
            now: the moment.
        """
        self._reader = reader
        self.now_ms = int(now.timestamp() * 1_000)
        asked = self.asked = read_spec(task["request"])
        terms = asked.terms
        ahead = [parent.task_id for parent in terms.after] + ([] if terms.array is None else [terms.array.array_id])
        columns = LiveColumns(
            self._query(LIVE_TASKS),
            self._query(PLACEMENTS),
            read_many,
            read_spec,
            # What else waits says when a waiting one will start, and nothing of where a placed one could be.
            MOST_WAITING if task["state"] == TaskState.WAITING else 0,
            {task["task_id"], *ahead},
            self._unheard_of(ahead),
        )
        self.world = world_of_crowd(
            world_facts(self._query, settings.node_timeout_ms, datasets=any(item.dataset for item in asked.data)),
            columns.crowd,
            columns.plain,
            columns.story_of,
            self.now_ms,
            heard=self._open_regions(settings.heartbeat_timeout_ms),
            tenants=tenants_of(settings),
        )
        self._open_for_the_met(task["task_id"], *ahead)
        self.world.assume_price(assumed_price(settings))
        for row in reader.ask(ORDERS).dicts():
            self.world.obey(read_order_row(row["ordered"]))
        self.explainer = Explainer(self.world, replace(plan_settings(settings), fair_share=False))

    def _open_regions(self, heartbeat_timeout_ms: int) -> list[RegionId]:
        newest = {row["region"]: row["seen"] for row in self._reader.ask(NEWEST_SAMPLES).dicts()}
        last = max(newest.values(), default=None)
        timeout = timedelta(milliseconds=heartbeat_timeout_ms)
        return sorted(region for region, seen in newest.items() if last is not None and last - seen <= timeout)

    def _open_for_the_met(self, *names: str) -> None:
        """Forget parents that run again: the columns show that they live, and not that they have ended before."""
        for task in [task for name in names if (task := self.world.tasks.get(TaskId(name))) is not None]:
            met = met_parents(task.task_id, task.unmet & self.world.tasks.keys(), self._reader)
            if met:
                task.unmet -= met
                self.world.gates.pass_on(task)

    def _unheard_of(self, ahead: Sequence[str]) -> set[str]:
        """Name those whom no table knows, alive or ended."""
        if not ahead:
            return set()
        listed = ", ".join(map(quote, ahead))
        asked = (f"SELECT task_id FROM {table} WHERE task_id IN ({listed})" for table in ("tasks", "tasks_archive"))
        return {*ahead} - {row["task_id"] for sql in asked for row in self._reader.ask(sql).dicts()}

    def _query(self, sql: str) -> "pa.Table":
        return self._reader.ask(sql).rows


def placed_copy(
    copy: dict[str, Any], copies: list[dict[str, Any]], history: list[dict[str, Any]], around: ExplainedWorld
) -> PlacedCopy:
    """Say where a copy is, what it costs and where else it could be."""
    (chosen,) = [
        row
        for row in history
        if (row["transition"], row["copy"], row["epoch"]) == ("assigned", copy["copy"], copy["epoch"])
    ][-1:] or [dict.fromkeys(MONEY)]
    task = around.world.tasks[copy["task_id"]]
    placed = task.copies[copy["copy"]]
    others = [other["region"] for other in copies if other["copy"] != copy["copy"]]
    spec = task.spec if task.spec.min_workers is None else sized(task.spec, placed.workers)
    found = around.explainer.options(spec, around.now_ms, taken=others, instead_of=(task.task_id, placed.index))
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


def unknown_regions(around: ExplainedWorld) -> list[str]:
    """Name the regions that the task asks for and that nobody has heard of, each with the one that may be meant."""
    import difflib  # late: few tasks name such a region

    asked = around.asked
    named = [*(asked.allowed_regions or ()), asked.origin_region, *(item.region for item in asked.data)]
    known = {pool.region for pool in around.world.nodes.pools} | around.world.geography.regions.keys()
    found = []
    for region in dict.fromkeys(named):
        if region is not None and region not in known:
            like = difflib.get_close_matches(region, sorted(known), 1)
            found.append(repr(region) + (f" (is {like[0]!r} meant?)" if like else ""))
    return found


def tried_again_ms(history: Sequence[dict[str, Any]], spec: TaskSpec) -> int:
    """Give the moment before which a task's last failure keeps it from starting; 0 where nothing does.

    Args:
        history: its rows of the ledger, in order.
        spec: what it asks for.
    """
    causes: list[str] = []
    failed_ms = 0
    for row in history:
        if row["transition"] == Change.FAILED:
            causes.append(row.get("cause") or EXIT)
            failed_ms = round(row["decided_at"].timestamp() * 1_000)
        elif row["transition"] in (Change.SUBMITTED, Change.UPDATED, Change.ASSIGNED):
            causes = [] if row["transition"] == Change.SUBMITTED else causes
            failed_ms = 0
    return failed_ms + spec.terms.retries.wait_ms(causes) if failed_ms else 0


def why_it_waits(row: dict[str, Any], history: Sequence[dict[str, Any]], around: ExplainedWorld) -> Waits:
    """Say why a task waits, what would let it in and when it will start."""
    task, now_ms = around.world.tasks[row["task_id"]], around.now_ms
    if (again_ms := tried_again_ms(history, task.spec)) > now_ms:  # failures are in the ledger alone
        around.world.gates.shut_until(task, again_ms)
    around.world.wake(now_ms)
    kept_out = words_of_gates(around.world, task, now_ms)
    if kept_out is not None:
        return Waits(recorded=row["reason"], now=kept_out, options=[], remedies=[], start=None)
    wait = around.explainer.wait(task, now_ms)
    return Waits(
        recorded=row["reason"],
        # Who refused and for how long is not in the tables, only what the last plan said of it.
        now=wait.reason or (row["reason"] if (row["reason"] or "").startswith("refused:") else None),
        options=around.explainer.options(task.spec, now_ms, taken=[copy.region for copy in task.copies.values()]),
        remedies=list(wait.remedies),
        start=wait.start if wait.reason else None,
    )
