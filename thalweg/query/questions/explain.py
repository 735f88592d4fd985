"""Explain one task from the tables: what was chosen and what else there was, or why it waits and what would change it.

What a row says is answered from its row. Only for a task that lives is the world looked at (`explained_world`).
"""

import json
import shlex
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from thalweg.query.questions.explanation import MONEY, Explanation, Waits
from thalweg.query.questions.task_worth import task_worth
from thalweg.query.sql.as_of import AsOf
from thalweg.query.sql.query import TableReader, quote
from thalweg.query.sql.reading_ahead import ReadingAhead
from thalweg.query.sql.sql_statement import QueryRefusedError
from thalweg.scheduling.decisions.array_words import array_of
from thalweg.sync.ledger.live_rows import FACTS, LIVE_TASKS, NEWEST_SAMPLES, ORDERS, PLACEMENTS

LIVE_STATES: Final = ("waiting", "assigned", "running")

if TYPE_CHECKING:
    from thalweg.conf.place_defaults import PlaceDefaults
    from thalweg.conf.settings import PlaceSettings


def explain_task(
    task_id: str, warehouse: str, as_of: AsOf | None, settings: "PlaceSettings | PlaceDefaults", now: datetime
) -> Explanation:
    """Explain a task.

    Raises:
        QueryRefusedError: there is no such task.
    """
    task_row = f"SELECT * FROM tasks WHERE task_id = {quote(task_id)}"
    history = (
        "SELECT decided_at, transition, copy, epoch, attempt, region, pool_id, cost_usd_per_hour, "
        f"{', '.join(MONEY)}, reason, plan_id FROM decisions WHERE task_id = {quote(task_id)}"
        " ORDER BY driver_epoch, batch_id, row"
    )
    with TableReader(warehouse, as_of) as reader, ReadingAhead(reader, (task_row, history)) as ahead:
        # What nearly every answer needs is loaded while its row is read.
        from thalweg.query.questions import closed_gate  # noqa: F401
        from thalweg.streams.contract import unknown_fields  # noqa: F401

        rows = ahead.ask(task_row).dicts()
        rows = rows or ahead.ask(f"SELECT * FROM tasks_archive WHERE task_id = {quote(task_id)}").dicts()
        told = ahead.ask(history).dicts() if not rows or rows[0]["state"] not in LIVE_STATES else None
        found = None
        if told is None:
            found = _explained_outside(rows[0], ahead, history, now)
            found = found or _explained_alive(rows[0], ahead, history, settings, now)
            told = found.history
        if as_of is None and told and (not rows or told[-1]["decided_at"] > rows[0]["changed_at"]):
            newest = _as_the_ledger_has_it(task_id, warehouse)
            if newest is not None and (not rows or newest["changed_at"] > rows[0]["changed_at"]):
                rows, found = [newest], _explained_outside(newest, ahead, history, now)
        if not rows:
            raise QueryRefusedError(_no_such_task(task_id, bool(told), warehouse, as_of))
        if found is None:
            found = _explained(rows[0], told)
        if rows[0]["state"] not in LIVE_STATES:
            return found
        worth = task_worth(rows[0], round(now.timestamp() * 1_000))
        return replace(_with_ways(found, ahead, settings), value=worth)


def _as_the_ledger_has_it(task_id: str, warehouse: str) -> dict[str, Any] | None:
    """Read the row of a task whose history goes further than the table: where it is and could be, no table says yet."""
    from thalweg.query.reports.newest_rows import newest_rows

    with TableReader(warehouse) as reader:
        return newest_rows(reader, warehouse, f"task_id = {quote(task_id)}").get(task_id)


def _no_such_task(task_id: str, has_history: bool, warehouse: str, as_of: AsOf | None) -> str:
    """Say that there is no such task; of what looks like an element, which elements its array has."""
    if has_history:
        return f"there is no task {task_id!r}; the ledger knows it, the table follows within seconds"
    from thalweg.query.reports.array_size import array_beside

    refused = f"if its request was refused: thalweg refused --task {shlex.quote(task_id)}"
    return f"there is no task {task_id!r}{array_beside(task_id, warehouse, as_of)}; {refused}. List them: thalweg tasks"


def _explained(task: dict[str, Any], history: list[dict[str, Any]]) -> Explanation:
    """Say what the rows of a task say that does not live."""
    return Explanation(task=task, placed=[], waits=None, history=history, unread=_unread(task["request"]))


def _explained_outside(task: dict[str, Any], ahead: ReadingAhead, history_of: str, now: datetime) -> Explanation | None:
    """Explain a task that is nowhere, and that the planner does not consider yet; None where it is another one."""
    from thalweg.query.questions.closed_gate import closed_gate, may_be_closed, read_request
    from thalweg.query.questions.met_parents import met_parents

    now_ms, request = round(now.timestamp() * 1_000), read_request(task["request"])
    if not may_be_closed(task, request, now_ms):
        return None

    def states_of(names: Sequence[str]) -> dict[str, str]:
        return _column_of("state", names, ahead)

    def met_of(living: Collection[str]) -> Collection[str]:
        return met_parents(task["task_id"], living, ahead)

    copies_of = _copies_of(task["task_id"])
    ahead.begin((copies_of,))
    history = ahead.ask(history_of).dicts()
    why = closed_gate(task, request, history, states_of, met_of, now_ms)
    if why is None or ahead.ask(copies_of).dicts():
        return None
    found = _explained(task, history)
    waits = Waits(recorded=task["reason"], now=why, options=[], remedies=[], start=None)
    return replace(found, waits=waits)


def _column_of(column: str, names: Sequence[str], ahead: ReadingAhead) -> dict[str, str]:
    """Give a column of the rows of tasks, of those that there are."""
    if not names:
        return {}
    listed = ", ".join(map(quote, names))
    # Of a name that lives anew, what it is now comes last.
    tables = ("tasks_archive", "tasks")
    asked = (f"SELECT task_id, {column} FROM {name} WHERE task_id IN ({listed})" for name in tables)
    return {row["task_id"]: row[column] for sql in asked for row in ahead.ask(sql).dicts()}


def _with_ways(found: Explanation, ahead: ReadingAhead, settings: "PlaceSettings | PlaceDefaults") -> Explanation:
    """Say of a task in front of the planner's queue what would let it in."""
    from thalweg.query.questions.closed_gate import parents_of, read_request
    from thalweg.query.questions.gate_ways import start_in_words, ways_in

    waits, task_id = found.waits, found.task["task_id"]
    if waits is None or waits.now is None or start_in_words(waits.now) is None:
        return found
    request = read_request(found.task["request"])
    parents = parents_of(request)
    states = _column_of("state", parents, ahead)
    missing = [name for name in parents if name not in states]
    arrays = [array for name in missing if (array := array_of(name)) is not None]
    of_arrays = {name: read_request(raw) for name, raw in _column_of("request", arrays, ahead).items()}
    counts = {name: one.array.count for name, one in of_arrays.items() if one.array is not None}
    of_array = request.array is not None and not found.task["held"]
    subject = (array_of(task_id) or task_id) if of_array else task_id
    ways = ways_in(waits.now, subject, parents, states, counts, alone=request.array is None)
    waits_for_missing = waits.now.startswith("parents:") and missing
    after_s = settings.parent_wait_ms / 1_000 if waits_for_missing else None
    return replace(found, waits=replace(waits, ways=ways, cancelled_after_s=after_s))


def _copies_of(task_id: str) -> str:
    return f"SELECT * FROM placements WHERE task_id = {quote(task_id)} ORDER BY copy"


def _explained_alive(
    task: dict[str, Any],
    ahead: ReadingAhead,
    history_of: str,
    settings: "PlaceSettings | PlaceDefaults",
    now: datetime,
) -> Explanation:
    """Look around a task that lives, too; what is around it is read while the planner loads."""
    task_id = task["task_id"]
    copies_of = _copies_of(task_id)
    ahead.begin((LIVE_TASKS, PLACEMENTS, *FACTS, NEWEST_SAMPLES, ORDERS, copies_of))
    # Late: who has ended needs no planner, and loading it takes longer than such an answer.
    from thalweg.query.questions.explained_world import ExplainedWorld, placed_copy, unknown_regions, why_it_waits

    around = ExplainedWorld(task, ahead, settings, now)
    history = ahead.ask(history_of).dicts()
    found = _explained(task, history)
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
