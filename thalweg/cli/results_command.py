"""`thalweg results TASK`: how each run of a task ended, and what it gave; of an array, what each element gave."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import click

from thalweg.cli.reach.reading import WrongCall, reading_command
from thalweg.cli.terminal.render import Column, Fit, on_one_line, print_json, print_table, state_colour
from thalweg.query.reports.array_size import array_beside
from thalweg.query.reports.ended_runs import EndedRun
from thalweg.query.reports.task_runs import TaskRuns, element_runs, task_runs
from thalweg.query.sql.as_of import AsOf, Version
from thalweg.query.sql.plain import plain
from thalweg.query.sql.sql_statement import QueryRefusedError
from thalweg.scheduling.counted import counted

_COLUMNS: Final = ("attempt", "copy", "region", "state", "cause", "exit_code", "started_at", "ended_at", "reason")


@click.command(short_help="Show how each run of a task ended, and what it gave.")
@click.argument("task")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Elements that are listed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with all elements.")
@reading_command
def results(task: str, limit: int, as_json: bool, warehouse: str, as_of: AsOf | None) -> None:
    """Show the runs of a task that have ended, and what the newest gave: result, figures, log, artefacts.

    Of an array: how each of its elements ended, and what it gave.

    A task that starts after others finds here all that they gave, also in its first second: what the tables have not
    yet is read from the ledger.

    Exit codes: 0 the task succeeded, or has not ended; 1 it failed or was cancelled; 2 there is no such task.

    \b
    Examples:
      thalweg results train-1
      thalweg results sweep-7 --json
      thalweg results 'sweep-7[3]'
    """
    if isinstance(as_of, Version):
        raise QueryRefusedError(f"--as-of {as_of.number} is a version of one table, results reads several; give a time")
    runs = task_runs(task, warehouse, as_of)
    if runs is None:
        raise WrongCall(f"no such task: {task}{array_beside(task, warehouse, as_of)}")
    elements = element_runs(task, warehouse, as_of) if runs.is_array else []
    if as_json:
        print_json(_document(runs, elements))
    elif runs.is_array:
        _print_elements(runs, elements, limit)
    else:
        _print(runs)
    sys.exit(int(runs.has_ended and runs.state != "succeeded"))


def _document(runs: TaskRuns, elements: Sequence[TaskRuns]) -> dict[str, Any]:
    told = {**_gave(runs), "runs": [asdict(run) for run in runs.ended]}
    return told | {"elements": list(map(_element, elements))} if runs.is_array else told


def _element(runs: TaskRuns) -> dict[str, Any]:
    newest = runs.newest
    return {
        **_gave(runs),
        "index": runs.index,
        "region": newest.region if newest else None,
        "exit_code": newest.exit_code if newest else None,
        "started_at": newest.started_at if newest else None,
        "ended_at": newest.ended_at if newest else None,
    }


def _gave(runs: TaskRuns) -> dict[str, Any]:
    newest = runs.newest
    return {
        "task_id": runs.task_id,
        "state": runs.state,
        "reason": runs.reason,
        "result": newest.result if newest else None,
        "metrics": newest.metrics if newest else {},
        "log": newest.log if newest else None,
        "artefacts": newest.artefacts if newest else {},
    }


def _print_elements(runs: TaskRuns, elements: Sequence[TaskRuns], limit: int) -> None:
    click.echo(on_one_line(f"{runs.task_id}: {runs.state}{_because(runs)}"))
    by_state = Counter(element.state for element in elements)
    click.echo(
        f"{counted(len(elements), 'element')}: " + ", ".join(f"{n:,} {state}" for state, n in sorted(by_state.items()))
    )
    rows = [{**_element(element), "where": _where(element)} for element in elements[:limit]]
    if rows:
        click.echo()
        print_table(
            [
                Column(name="task_id", title="task", fit=Fit.KEEP),
                Column(name="state", fit=Fit.KEEP, colour=state_colour),
                Column(name="where", fit=Fit.CUT),
                Column(name="exit_code", title="exit", fit=Fit.GO, right=True),
                Column(name="result", say=_pairs, fit=Fit.CUT),
                Column(name="metrics", say=_pairs, fit=Fit.CUT),
                Column(name="reason", fit=Fit.CUT),
            ],
            rows,
        )
    if len(elements) > limit:
        click.echo(f"\n{limit:,} of {len(elements):,}; --limit shows more, --json all")


def _where(runs: TaskRuns) -> str:
    if runs.placed:
        return ", ".join(placed.region for placed in runs.placed)
    return (runs.newest.region if runs.newest else None) or ""


def _pairs(values: dict[str, Any] | None) -> str:
    return ", ".join(f"{name} {plain(value)}" for name, value in (values or {}).items())


def _print(runs: TaskRuns) -> None:
    where = ", ".join(sorted({placed.region for placed in runs.placed}))
    click.echo(on_one_line(f"{runs.task_id}: {runs.state}" + (f" in {where}" if where else "") + _because(runs)))
    if not runs.ended:
        click.echo("no run of it has ended")
        return
    click.echo()
    print_table(_COLUMNS, [asdict(run) for run in runs.ended])
    _print_outputs(runs.ended[-1])


def _because(runs: TaskRuns) -> str:
    return f" ({runs.reason})" if runs.reason else ""


def _print_outputs(run: EndedRun) -> None:
    rows: list[tuple[str, str, object]] = [
        *(("result", name, value) for name, value in (run.result or {}).items()),
        *(("metric", name, value) for name, value in sorted(run.metrics.items())),
        *(("artefact", name, uri) for name, uri in sorted(run.artefacts.items())),
        *([("log", "", run.log)] if run.log else []),
    ]
    if rows:
        click.echo("\nThe newest run gave")
        print_table(("what", "name", "value"), [dict(zip(("what", "name", "value"), row, strict=True)) for row in rows])
