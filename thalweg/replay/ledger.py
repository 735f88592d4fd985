"""The ledger's history as a scenario: what was asked for, when, for how long it ran, and what the place job did.

The history begins at a version of the ledger: what waited and ran then is there from the start, what came later arrives
when it came. Run times are those that were observed, or the expected ones where a task did not succeed. Failures and
lost regions are part of what was recorded, not of what is replayed; the fleet is what the tables say.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from datetime import datetime
from typing import Final

import pyarrow as pa
from msgspec import structs

from thalweg.query.sql.as_of import AsOf, Version
from thalweg.query.sql.query import query
from thalweg.query.sql.sql_statement import QueryRefusedError
from thalweg.replay.recorded_tasks import RecordedStay, RecordedTask, recorded_tasks
from thalweg.replay.scenario import Scenario
from thalweg.scheduling.counted import counted
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.replay.live import fleet_of, moved_gb
from thalweg.scheduling.replay.replay import JobStart, RegionalSupply, ReplayJob, Stays
from thalweg.scheduling.world.facts import WorldFacts
from thalweg.scheduling.world.making import world_from
from thalweg.scheduling.world.tasks import NO_TERMS, Change, Transition, stands_for_array
from thalweg.scheduling.world.world import World
from thalweg.streams.placement.task_specs import read_spec
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.data_files import conformed
from thalweg.sync.ledger.ledger import from_rows
from thalweg.sync.tables.world_tables import world_facts

RECORDED: Final = "recorded"
NEVER_SILENT_MS: Final = 10**15  # every node that the table calls ready takes part, whenever it was heard last
_NAN: Final = float("nan")


def ledger_scenario(warehouse: str, *, from_version: int | None, as_of: AsOf | None, strategy: str) -> Scenario:
    """Read the ledger's history.

    Args:
        warehouse: folder or URI of the tables.
        from_version: version of the ledger at which the replay begins; None for its first row.
        as_of: version or moment at which the history ends; None for now. At a moment, the fleet is read as of it, too.
        strategy: replayed beside what was recorded when nothing else is named.

    Raises:
        QueryRefusedError: there is no such version, or nothing to replay.
        LogTooShortError, WarehouseUnreadableError: see `thalweg.query`.
    """
    rows = query("SELECT * FROM decisions ORDER BY driver_epoch, batch_id, row", warehouse, as_of).rows
    history = from_rows(conformed(pa.table(rows), DECISIONS.schema), read_spec)
    known = 0 if from_version is None else _rows_at(warehouse, from_version)
    if known >= len(history):
        raise QueryRefusedError(
            f"the ledger of {warehouse} has {counted(len(history), 'row')} up to the end asked for, and version "
            f"{from_version} had {known} of them: nothing is left to replay. Begin at an earlier --from-version"
            if history
            else f"the ledger of {warehouse} is empty: let it place something first (thalweg demo, thalweg submit)"
        )
    arrays = {row.task_id for row in history if row.spec is not None and stands_for_array(row.task_id, row.spec)}
    before, after = (_placements_alone(rows, arrays) for rows in (history[:known], history[known:]))
    lives = recorded_tasks(before, after)
    begin_ms = before[-1].decided_ms if before else min(life.arrive_ms for life in lives)
    facts = _facts(warehouse, as_of if isinstance(as_of, datetime) else None)
    everywhere = sorted({node.region for node in facts.nodes or ()})

    def world() -> World:
        return world_from(facts, before, begin_ms, heard=everywhere)

    start = world()
    alive = [life for life in lives if not _over(start, life)]
    alive.sort(key=lambda life: (life.arrive_ms, life.job_id))
    supply = dict(zip(fleet_of(start).regions, fleet_of(start).gpus, strict=True))
    for life in alive:
        for stay in life.stays:
            supply.setdefault(stay.region, 0.0)  # it is gone from the tables
    fleet = RegionalSupply(regions=tuple(sorted(supply)), gpus=tuple(supply[region] for region in sorted(supply)))
    jobs = [_job(life, start, begin_ms) for life in alive]

    def begun(index: int, stay: RecordedStay, run_s: float) -> tuple[JobStart, float]:
        money = stay.row.money
        one = JobStart(
            job=index,
            region=fleet.regions.index(stay.region),
            gpus=jobs[index].gpus,
            run_s=run_s,
            usd_per_hour=stay.row.usd_per_hour or 0.0,
            egress_usd=money.egress_usd if money is not None else 0.0,
            moved_gb=moved_gb(start, alive[index].spec, stay.region),
        )
        return one, (stay.row.decided_ms - begin_ms) / 1_000

    recorded, running = Stays.none(), list[tuple[JobStart, float]]()
    end_ms = history[-1].decided_ms
    for index, life in enumerate(alive):
        for stay in life.stays:
            if not stay.past:
                one, at_s = begun(index, stay, life.stayed_s(stay, end_ms))
                recorded.add(one, at_s, at_s + one.run_s, stay.ending)
            if stay.runs_at_begin:
                running.append(begun(index, stay, max(life.would_stay_s(stay), (begin_ms - stay.row.decided_ms) / 1e3)))
    return Scenario(
        what={
            "trace": "ledger",
            "rows": len(history),
            "from_version": from_version,
            "begin_ms": begin_ms,
            "regions": len(fleet.regions),
            "gpus": sum(fleet.gpus),
        },
        jobs=jobs,
        specs=[life.spec for life in alive],
        fleet=fleet,
        world=world,
        default=(RECORDED, strategy),
        begin_s=0.0,
        begin_ms=begin_ms,
        running=running,
        recorded=recorded.result(RECORDED, 0.0, max((job.arrive_s for job in jobs), default=0.0), _NAN),
    )


def _placements_alone(rows: Sequence[Transition], arrays: Set[TaskId]) -> list[Transition]:
    """Leave out what says when tasks may start, and what stands for an array and never runs.

    A task of the replay arrives when it was asked for; for what it waited then is part of what was recorded.
    """
    return [
        row if row.spec is None else structs.replace(row, spec=replace(row.spec, terms=NO_TERMS))
        for row in rows
        if row.task_id not in arrays and row.change not in (Change.HELD, Change.RELEASED)
    ]


def _rows_at(warehouse: str, version: int) -> int:
    """Count the rows that the ledger had at a version."""
    counted = query("SELECT count(*) AS rows FROM decisions", warehouse, Version(version)).rows
    return int(counted.column(0)[0].as_py())


def _over(start: World, life: RecordedTask) -> bool:
    return start.ended.get(TaskId(life.job_id)) is not None


def _job(life: RecordedTask, start: World, begin_ms: int) -> ReplayJob:
    task = start.tasks.get(TaskId(life.job_id))
    done = 0 if task is None else len(task.done_copies)
    return ReplayJob(
        job_id=life.job_id,
        arrive_s=(life.arrive_ms - begin_ms) / 1_000,
        run_s=life.run_s,
        gpus=life.spec.gpus,
        home=-1,
        copies=life.spec.replicas - done,
        cancel_s=float("inf") if life.cancel_ms is None else (life.cancel_ms - begin_ms) / 1_000,
    )


def _facts(warehouse: str, moment: datetime | None) -> WorldFacts:
    """Nodes, links, prices and datasets as the tables hold them."""
    facts = world_facts(lambda sql: pa.table(query(sql, warehouse, moment).rows), NEVER_SILENT_MS)
    if not facts.nodes:
        raise QueryRefusedError(f"the table nodes of {warehouse} is empty: there is no fleet to replay on")
    return facts
