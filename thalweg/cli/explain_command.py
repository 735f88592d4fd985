"""`thalweg explain TASK`."""

import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from thalweg.cli.reach.reading import WrongCall, reading_command
from thalweg.cli.reach.solver_output import solvers_to_stderr
from thalweg.cli.terminal import words
from thalweg.cli.terminal.durations import in_words
from thalweg.cli.terminal.render import Column, Fit, on_one_line, print_json, print_table, state_colour
from thalweg.conf.place_defaults import PLACE_DEFAULTS, PlaceDefaults
from thalweg.query.sql.as_of import AsOf, Version
from thalweg.query.sql.sql_statement import QueryRefusedError

if TYPE_CHECKING:
    from thalweg.conf.settings import PlaceSettings
    from thalweg.query.questions.explanation import Explanation, PlacedCopy, Waits
    from thalweg.scheduling.explain.start_estimate import StartEstimate


@click.command(short_help="Explain a task: its cost and the next best region, or why it waits.")
@click.argument("task")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@reading_command
def explain(task: str, as_json: bool, warehouse: str, as_of: AsOf | None) -> None:
    """Explain a task from the tables.

    For a placed task: the chosen pool, its cost by component, and every other region with what it would cost more. For
    a waiting one: the binding constraint, the smallest changes that would place it, each checked by planning with it,
    and an estimated start. For both: what an hour's delay of it costs, and where that figure comes from. For each: its
    history.

    What else could be done is asked of the planner itself, over the nodes, links, prices and placements of now.

    \b
    Examples:
      thalweg explain job-17
      thalweg explain job-17 --json
      thalweg explain job-17 --as-of '10m ago'
    """
    from thalweg.query.questions.explain import explain_task
    from thalweg.query.questions.explanation import as_document

    if isinstance(as_of, Version):
        raise QueryRefusedError(f"--as-of {as_of.number} is a version of one table, explain reads six; give a time")
    place = _settings(click.get_current_context().params["config"])
    with solvers_to_stderr():
        found = explain_task(task, warehouse, as_of, place, as_of or datetime.now(UTC))
    if as_json:
        print_json(as_document(found))
        return
    _print_task(found)
    for copy in found.placed:
        _print_placed(copy)
    if found.waits:
        _print_wait(found.waits)
    click.echo("\nHistory")
    print_table(_history_columns(as_of or datetime.now(UTC)), found.history)


def _settings(config: Path | None) -> "PlaceSettings | PlaceDefaults":
    """Read what `place` plans with; where nobody says anything, without loading the settings, which takes long."""
    said = [name for name in os.environ if name == "THALWEG_CONFIG" or (name.startswith("THALWEG_") and "__" in name)]
    if config is None and not said:
        return PLACE_DEFAULTS
    from thalweg.conf.settings import SettingsError, load_settings

    try:
        return load_settings(config).place
    except SettingsError as error:
        raise WrongCall(str(error)) from error


def _history_columns(now: datetime) -> list[Column]:
    return [
        Column(name="decided_at", title="when", say=words.ago(now), fit=Fit.KEEP, right=True),
        Column(name="transition", title="what", fit=Fit.KEEP, colour=state_colour),
        Column(name="copy", fit=Fit.GO),
        Column(name="epoch", fit=Fit.GO),
        Column(name="attempt", title="try", fit=Fit.GO),
        Column(name="pool_id", title="where", fit=Fit.KEEP),
        Column(name="reason", fit=Fit.WRAP),
    ]


def _say(words: str) -> None:
    """Print a line in which ids and reasons stand that others have written."""
    indent = len(words) - len(words.lstrip(" "))
    click.echo(" " * indent + on_one_line(words))


def _print_task(found: "Explanation") -> None:
    task = found.task
    regions = f" in {', '.join(filter(None, task['regions']))}" if task["regions"] else ""
    _say(f"{task['task_id']}: {task['state']}{regions}, priority {task['priority']}, tenant {task['tenant']}")
    if found.value:
        _say(found.value.words)
    if not found.placed and not found.waits and task["reason"]:
        _say(f"Reason: {task['reason']}")
    for unread in found.unread:
        _say(f"Its request has an {unread}; nobody reads it")
    for region in found.unknown_regions:
        _say(f"Its request names the region {region}, of which nothing was heard yet")


def _print_placed(copy: "PlacedCopy") -> None:
    recorded = {name: usd for name, usd in copy.chosen_usd.items() if usd is not None}
    click.echo(f"\nCopy {copy.copy}: {copy.pool_id} ({copy.state}), {copy.cost_usd_per_hour or 0.0:.2f} USD an hour")
    parts = ", ".join(f"{name.removesuffix('_usd')} {usd:.2f}" for name, usd in recorded.items() if usd)
    click.echo(f"Cost when decided: {sum(recorded.values()):.2f} USD" + (f" ({parts})" if parts else ""))
    if copy.next_best is None or copy.next_best.best is None:
        click.echo("Next best region: none has a place for it now")
    elif copy.here_now_usd is None:
        click.echo(f"Next best region: {copy.next_best.region}, {copy.next_best.best.usd:.2f} USD")
    else:
        more = copy.next_best.best.usd - copy.here_now_usd
        click.echo(
            f"Next best region: {copy.next_best.region}, {copy.next_best.best.usd:.2f} USD: "
            f"{abs(more):.2f} USD {'more' if more >= 0 else 'less'} than here at the prices of now"
        )
    _print_options(copy.options, copy.here_now_usd)


def _print_wait(waits: "Waits") -> None:
    if waits.recorded:
        click.echo()
        _say(f"Waits, as last planned: {waits.recorded}")
    _say(f"Waits, as of now: {waits.now or 'it would be placed by the next plan that considers it'}")
    if waits.now:
        _print_ways(waits, waits.now)
    _print_options(waits.options, None)


def _print_ways(waits: "Waits", gate: str) -> None:
    """Say when it will start, and what would let it in."""
    from thalweg.query.questions.gate_ways import start_in_words

    in_front = start_in_words(gate)
    click.echo(_start(waits.start) if in_front is None else f"Estimated start: {in_front}")
    if waits.cancelled_after_s is not None:
        click.echo(f"It is cancelled when a parent has been missing for {waits.cancelled_after_s:g} s")
    if waits.remedies or waits.ways:
        click.echo("What would change it:")
    elif in_front is None:
        click.echo("Nothing that was tried would let it in.")
    for way in waits.ways:
        _say(f"  {way}")
    for remedy in waits.remedies:
        _say(f"  {remedy.change}: {', '.join(remedy.regions)} for {remedy.usd:.2f} USD")


def _start(start: "StartEstimate | None") -> str:
    """Say when it will probably start."""
    if start is None:
        return "Estimated start: cannot be told, since it does not wait for GPUs that running tasks give back"
    if not math.isfinite(start.p50_h):
        return "Estimated start: never, as things stand"
    soonest, likely = in_words(start.p10_h * 3_600), in_words(start.p50_h * 3_600)
    latest = in_words(start.p90_h * 3_600) if math.isfinite(start.p90_h) else "never"
    return f"Estimated start: in {likely} (80 % interval: {soonest} to {latest})"


def _print_options(options: list[Any], here_usd: float | None) -> None:
    from thalweg.query.questions.explanation import MONEY

    rows = []
    for option in options:
        money = option.best.money if option.best else None
        rows.append(
            {
                "region": option.region,
                "usd": option.best.usd if option.best else None,
                **({} if here_usd is None else {"more": option.best.usd - here_usd if option.best else None}),
                **{name.removesuffix("_usd"): getattr(money, name) if money else None for name in MONEY},
                "pool or reason": option.best.pool_id if option.best else option.reason,
            }
        )
    if rows:
        click.echo()
        print_table(list(map(_option_column, rows[0])), rows)


def _option_column(name: str) -> Column:
    match name:
        case "region":
            return Column(name=name, fit=Fit.KEEP)
        case "pool or reason":
            return Column(name=name, fit=Fit.WRAP)
        case "usd" | "more":
            return Column(name=name, title="USD" if name == "usd" else name, say=words.usd, fit=Fit.KEEP, right=True)
        case _:
            return Column(name=name, say=words.usd, fit=Fit.GO, right=True)
