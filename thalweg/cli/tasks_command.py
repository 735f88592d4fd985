"""`thalweg tasks`: what there is, what of it is looked for, and how it goes on."""

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import click

from thalweg.cli.reach.reading import reading_command
from thalweg.cli.reach.said import SAID
from thalweg.cli.terminal import words
from thalweg.cli.terminal.render import Column, Fit, print_json, print_table, state_colour
from thalweg.query.reports.task_list import TaskFilter, TaskList, TaskOrder, list_tasks
from thalweg.query.sql.as_of import AsOf, Version, parse_as_of
from thalweg.query.sql.query import TableReader
from thalweg.query.sql.sql_statement import QueryRefusedError
from thalweg.scheduling.counted import counted
from thalweg.scheduling.world.tasks import TaskState

_TOP_LEFT_AND_CLEAR: Final = "\x1b[H\x1b[2J"
_HELD: Final = "held"
"""What people read of a task that waits and is held."""
_LINES_AROUND: Final = 6
"""Of a screen that is watched: heading, rule, counts, the time, the prompt."""


class _State(click.Choice[str]):
    """A state; what a row shows as one and is none has an option of its own."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == _HELD:
            self.fail("a task that is held is in state waiting; --held means those", param, ctx)
        return super().convert(value, param, ctx)


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which tasks are meant; `wanted_tasks` reads them."""
    for option in (
        click.option("--held", is_flag=True, help="Only those that are held."),
        click.option("--reason", type=SAID, metavar="WORDS", help="Only those with these words in their reason."),
        click.option(
            "--since", type=SAID, metavar="TIME", help="Only those changed since: 2h, or 2026-11-21T12:00:00Z."
        ),
        click.option("--array", type=SAID, metavar="TASK", help="Only the elements of this array."),
        click.option(
            "--name", type=SAID, metavar="GLOB", help="Only those of this name; * is anything. Who has none has its id."
        ),
        click.option("--region", type=SAID, help="Only those with a copy in this region."),
        click.option("--tenant", type=SAID, help="Only this tenant's."),
        click.option("--state", "states", type=_State([s.value for s in TaskState]), multiple=True, help="Repeatable."),
    ):
        command = option(command)
    return command


FILTERS: Final = ("states", "tenant", "region", "name", "array", "reason", "since", "held")
"""Names of the parameters that `filter_options` adds."""


def wanted_tasks(given: Mapping[str, Any], now: datetime, **more: Any) -> TaskFilter:
    """Read what the options of `filter_options` say.

    Raises:
        QueryRefusedError: --since is no time.
    """
    since = given["since"]
    moment = None if since is None else parse_as_of(since, now, "--since")
    if isinstance(moment, Version):
        raise QueryRefusedError(f"--since {since!r}: allowed are an age (2h) or a time (2026-11-21T12:00:00Z)")
    return TaskFilter(**{name: given[name] for name in FILTERS if name != "since"}, since=moment, **more)


@click.command(short_help="List tasks and their states.")
@filter_options
@click.option("--task", "task_ids", type=SAID, multiple=True, help="Only this task; repeatable.")
@click.option("--all", "ended_too", is_flag=True, help="Also tasks that ended long ago (tasks_archive).")
@click.option(
    "--sort",
    type=click.Choice([order.value for order in TaskOrder]),
    default=TaskOrder.CHANGED.value,
    show_default=True,
    help="The newest, dearest, most urgent first; value is what an hour's delay costs.",
)
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="So many are listed.")
@click.option("--watch", is_flag=True, help="Look again every two seconds until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with all columns; one a look.")
@reading_command
def tasks(
    task_ids: tuple[str, ...],
    ended_too: bool,
    sort: str,
    reverse: bool,
    limit: int,
    watch: bool,
    as_json: bool,
    warehouse: str,
    as_of: AsOf | None,
    **given: Any,
) -> None:
    """List tasks, most recently changed first, with how many there are in each state.

    `USD/h` is what a task costs now, `delay USD/h` what an hour's delay of it costs (its value), deadlines aside.

    Tasks that ended longer ago than `place.archive_after_s` are looked at with --since, --task or --all.

    \b
    Examples:
      thalweg tasks --state waiting --limit 10
      thalweg tasks --name 'train-*' --since 2h --sort cost
      thalweg tasks --state waiting --sort value
      thalweg tasks --array sweep-7 --state failed
      thalweg tasks --region aws:us-east-1 --json
      thalweg tasks --tenant research --as-of '1h ago'
      thalweg tasks --watch
    """
    if watch and as_of is not None:
        raise QueryRefusedError("--watch looks at what is there now, --as-of at what was: allowed is one of the two")

    def look(most: int) -> None:
        now = as_of if isinstance(as_of, datetime) else datetime.now(UTC)
        wanted = wanted_tasks(given, now, task_ids=task_ids, ended_too=ended_too)
        with TableReader(warehouse, as_of) as reader:
            found = list_tasks(reader, wanted, TaskOrder(sort), turned=reverse, limit=most)
        if as_json:
            print_json({"matching": found.matching, "by_state": found.by_state, "tasks": found.tasks})
            return
        if watch:
            click.echo(f"{_TOP_LEFT_AND_CLEAR if sys.stdout.isatty() else ''}{now:%H:%M:%S} UTC")
        print_tasks(found, wanted, now)

    if watch:
        _again_and_again(look, limit)
    else:
        look(limit)


def _again_and_again(look: Callable[[int], None], limit: int) -> None:
    while True:
        room = shutil.get_terminal_size().lines - _LINES_AROUND
        look(min(limit, max(room, 1)) if sys.stdout.isatty() else limit)
        sys.stdout.flush()
        time.sleep(2.0)


def print_tasks(found: TaskList, wanted: TaskFilter, now: datetime) -> None:
    """Print tasks for a person, or what to do where there are none."""
    if not found.tasks:
        click.echo(_none(wanted))
        return
    named = any(task["name"] for task in found.tasks)
    ago = words.ago(now)
    columns = [
        Column(name="task_id", title="task", fit=Fit.KEEP),
        *([Column(name="name", fit=Fit.CUT)] if named else []),
        Column(name="state", fit=Fit.KEEP, colour=state_colour),
        Column(name="regions", title="where", say=words.listed, fit=Fit.CUT),
        Column(name="gpus", title="GPUs", say=words.amount, fit=Fit.GO, right=True),
        Column(name="cost_usd_per_hour", title="USD/h", say=words.usd, fit=Fit.KEEP, right=True),
        Column(name="value_usd_per_hour", title="delay USD/h", say=words.usd, fit=Fit.GO, right=True),
        Column(name="tenant", fit=Fit.GO),
        Column(name="priority", title="prio", fit=Fit.GO, right=True),
        Column(name="attempt", title="tries", fit=Fit.GO, right=True),
        Column(name="submitted_at", title="submitted", say=ago, fit=Fit.GO, right=True),
        Column(name="changed_at", title="changed", say=ago, fit=Fit.KEEP, right=True),
        Column(name="reason", fit=Fit.CUT),
    ]
    print_table(columns, [_for_people(task) for task in found.tasks])
    told = ", ".join(f"{count:,} {state}" for state, count in _for_people_counted(found).items())
    click.echo(f"\n{len(found.tasks):,} of {counted(found.matching, 'task')}: {told}")


def _for_people(task: Mapping[str, Any]) -> dict[str, Any]:
    """Add what a request asks for, and say of what waits that it is held."""
    is_held = task["held"] and task["state"] == TaskState.WAITING
    return {**task, "gpus": gpus_of(task["request"]), "state": _HELD if is_held else task["state"]}


def _for_people_counted(found: TaskList) -> dict[str, int]:
    """Count the states that people see in the rows."""
    waiting = found.by_state.get(TaskState.WAITING, 0) - found.held
    counts = {**found.by_state, _HELD: found.held, TaskState.WAITING.value: waiting}
    return {state: count for state, count in sorted(counts.items()) if count}


def _none(wanted: TaskFilter) -> str:
    if wanted.is_everything:
        return "No tasks yet. Submit one: thalweg submit --gpus 1 --command 'nvidia-smi'"
    elsewhere = "" if wanted.reads_archive else ", and --all for those that ended long ago"
    return f"No task is meant by this. See all of them: thalweg tasks{elsewhere}; what was refused: thalweg refused"


def gpus_of(request: str | None) -> float | None:
    """Read from a request's JSON how many GPUs a copy asks for; None where it does not say."""
    try:
        asked = json.loads(request or "{}")
        parts = asked.get("subtasks") or [asked]
        return sum((part.get("workers") or 1) * _of_worker(part.get("per_worker") or {}) for part in parts)
    except (ValueError, AttributeError, TypeError):
        return None


def _of_worker(need: Mapping[str, Any]) -> float:
    return float((need.get("gpus") or 0) + (need.get("gpu_milli") or 0) / 1_000)
