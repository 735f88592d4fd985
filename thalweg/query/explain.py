"""Explain one task from the tables: what was chosen and what else there was, or why it waits and what would change it.

What a row says is answered from its row. Only for a task that lives is the world looked at (`explained_world`).
"""

import json
import shlex
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from thalweg.query.as_of import AsOf
from thalweg.query.explanation import MONEY, Explanation
from thalweg.query.query import TableReader, quote
from thalweg.query.sql_statement import QueryRefusedError

if TYPE_CHECKING:
    from thalweg.conf.place_defaults import PlaceDefaults
    from thalweg.conf.settings import PlaceSettings

_LIVE: Final = ("waiting", "assigned", "running")


def explain_task(
    task_id: str, warehouse: str, as_of: AsOf | None, settings: "PlaceSettings | PlaceDefaults", now: datetime
) -> Explanation:
    """Explain a task.

    Raises:
        QueryRefusedError: there is no such task.
    """
    with TableReader(warehouse, as_of) as reader:
        return _explained(task_id, reader, settings, now)


def _explained(
    task_id: str, reader: TableReader, settings: "PlaceSettings | PlaceDefaults", now: datetime
) -> Explanation:
    rows = reader.dicts
    tasks = rows(f"SELECT * FROM tasks WHERE task_id = {quote(task_id)}")
    if not tasks:
        tasks = rows(f"SELECT * FROM tasks_archive WHERE task_id = {quote(task_id)}")
    history = rows(
        "SELECT decided_at, transition, copy, epoch, attempt, region, pool_id, cost_usd_per_hour, "
        f"{', '.join(MONEY)}, reason, plan_id FROM decisions WHERE task_id = {quote(task_id)}"
        " ORDER BY driver_epoch, batch_id, row"
    )
    if not tasks:
        hint = "; the ledger knows it, the table follows within seconds" if history else ""
        refused = "" if history else f"; if its request was refused: thalweg refused --task {shlex.quote(task_id)}"
        raise QueryRefusedError(f"there is no task {task_id!r}{hint}{refused}. List them: thalweg tasks")
    (task,) = tasks
    found = Explanation(task=task, placed=[], waits=None, history=history, unread=_unread(task["request"]))
    if task["state"] not in _LIVE:
        return found
    copies_of = f"SELECT * FROM placements WHERE task_id = {quote(task_id)} ORDER BY copy"
    # Late: who has ended needs no planner, and loading it takes longer than such an answer.
    from thalweg.query.reading_ahead import ReadingAhead
    from thalweg.sync.ledger.live_rows import FACTS, LIVE_TASKS, NEWEST_SAMPLES, ORDERS, PLACEMENTS

    ahead = ReadingAhead(reader, (LIVE_TASKS, PLACEMENTS, *FACTS, NEWEST_SAMPLES, ORDERS, copies_of))
    from thalweg.query.explained_world import ExplainedWorld, placed_copy, unknown_regions, why_it_waits

    around = ExplainedWorld(task, ahead, settings, now)
    if task_id not in around.world.tasks:
        return found
    copies = ahead.ask(copies_of).dicts()
    placed = [placed_copy(copy, copies, history, around) for copy in copies if copy["state"] != "succeeded"]
    waits = why_it_waits(task, history, around) if task["state"] == "waiting" else None
    strange = unknown_regions(around) if waits else []
    return replace(found, placed=placed, waits=waits, unknown_regions=strange)


def _unread(request: str | None) -> list[str]:
    try:
        content = json.loads(request or "{}")
    except ValueError:
        return []
    from thalweg.streams.contract.messages import TaskRequest
    from thalweg.streams.contract.unknown_fields import unknown_fields

    return list(map(str, unknown_fields(content, TaskRequest))) if isinstance(content, dict) else []
