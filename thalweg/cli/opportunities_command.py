"""`thalweg opportunities`: what would be cheaper elsewhere now, beside the moves that were made."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from thalweg.cli.reach.reading import WrongCall, reading_command
from thalweg.cli.terminal import words
from thalweg.cli.terminal.render import Column, Fit, print_json, print_table
from thalweg.query.sql.as_of import AsOf, Version, parse_as_of
from thalweg.query.sql.query import TableReader
from thalweg.query.sql.sql_statement import QueryRefusedError
from thalweg.scheduling.counted import counted

if TYPE_CHECKING:
    from thalweg.query.reports.opportunities import Opportunities, Opportunity


@click.command(short_help="Show what would be cheaper elsewhere now, and the moves that were made.")
@click.option("--since", default="1d ago", show_default=True, metavar="TIME", help="Moves from here on are told.")
@click.option(
    "--groups",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Groups of equal tasks in one pool that are looked at, the dearest by the hour first.",
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="So many are listed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with all that was found.")
@reading_command
def opportunities(since: str, groups: int, limit: int, as_json: bool, warehouse: str, as_of: AsOf | None) -> None:
    """Show what is placed and would cost less elsewhere at the prices of now, by how much, and what moved.

    The planner itself is asked, with the prices, limits and weights of the place job: what one copy would cost in its
    own pool, and in the cheapest other pool that has room for it now, its own room counted as free. "moving saves" is
    what moving the youngest of the group now would save: it would begin anew, and pay for its data again. Room that two
    copies want is there for one. Of the moves that the place job made of itself, the last table says what they were to
    save and what they have saved by now.

    \b
    Examples:
      thalweg opportunities
      thalweg opportunities --since 7d --json
    """
    # Late: the planner's solvers take a second to load.
    from thalweg.conf.settings import SettingsError, load_settings
    from thalweg.query.reports.opportunities import opportunities as look

    if as_of is not None:
        raise QueryRefusedError("--as-of: opportunities are of now; --since says from when moves are told")
    now = datetime.now(UTC)
    moment = parse_as_of(since, now, "--since")
    if isinstance(moment, Version):
        raise QueryRefusedError(f"--since {since!r}: allowed are an age (7d) or a time (2026-11-21T12:00:00Z)")
    try:
        place = load_settings(click.get_current_context().params["config"]).place
    except SettingsError as error:
        raise WrongCall(str(error)) from error
    with TableReader(warehouse) as reader:
        found = look(reader, place, now, moment, most_groups=groups)
    if as_json:
        print_json(_document(found, moment, now))
    else:
        _print(found, since, limit)


def _document(found: "Opportunities", since: datetime, now: datetime) -> dict[str, Any]:
    told = asdict(found)
    del told["found"]
    return {"since": since, "until": now, "opportunities": list(map(_row, found.found)), **told}


def _row(one: "Opportunity") -> dict[str, Any]:
    return {**asdict(one), "cheaper_usd": one.cheaper_usd, "all_cheaper_usd": one.tasks * one.cheaper_usd}


def _print(found: "Opportunities", since: str, limit: int) -> None:
    if found.found:
        print_table(_FOUND, [_row(one) for one in found.found[:limit]])
    click.echo(("\n" if found.found else "") + _counted(found, limit))
    if not found.moves:
        click.echo(f"No copy has moved to another pool since {since}.")
        return
    click.echo(f"\nMoves since {since}")
    rows = [{**asdict(one), "more": one.usd_per_hour_after - one.usd_per_hour_before} for one in found.moves[:limit]]
    print_table(_MOVED, rows)
    if found.looked_again:
        click.echo("\nOf these, by looking again at what runs")
        print_table(_LOOKED, [asdict(one) for one in found.looked_again])


def _counted(found: "Opportunities", limit: int) -> str:
    said = [f"Of {found.copies:,} placed copies {sum(one.tasks for one in found.found):,} would cost less elsewhere"]
    if len(found.found) > limit:
        said.append(f"{limit:,} of {counted(len(found.found), 'group is', 'groups are')} listed: --limit")
    if found.no_price:
        said.append(f"{found.no_price:,} could not be compared: their own pool would not take them now")
    if found.not_asked:
        said.append(f"{found.not_asked:,} cheaper ones were not looked at: --groups")
    return "; ".join(said) + "."


_FOUND = (
    Column(name="example", title="task", fit=Fit.KEEP),
    Column(name="tasks", title="like it", say=words.amount, fit=Fit.KEEP, right=True),
    Column(name="tenant", fit=Fit.GO),
    Column(name="gpus", title="GPUs", say=words.amount, fit=Fit.GO, right=True),
    Column(name="pool_id", title="now in", fit=Fit.CUT),
    Column(name="to_pool_id", title="cheaper in", fit=Fit.CUT),
    Column(name="here_usd", title="USD here", say=words.usd, fit=Fit.KEEP, right=True),
    Column(name="there_usd", title="USD there", say=words.usd, fit=Fit.KEEP, right=True),
    Column(name="moving_saves_usd", title="moving saves", say=words.usd, fit=Fit.KEEP, right=True),
)
_LOOKED = (
    Column(name="why", fit=Fit.KEEP),
    Column(name="moves", say=words.amount, fit=Fit.KEEP, right=True),
    Column(name="running", title="run there still", say=words.amount, fit=Fit.KEEP, right=True),
    Column(name="expected_usd", title="USD to save", say=words.usd, fit=Fit.KEEP, right=True),
    Column(name="realised_usd", title="saved so far", say=words.usd, fit=Fit.KEEP, right=True),
)
_MOVED = (
    Column(name="why", fit=Fit.KEEP),
    Column(name="moves", say=words.amount, fit=Fit.KEEP, right=True),
    Column(name="pool_id", title="from", fit=Fit.CUT),
    Column(name="to_pool_id", title="to", fit=Fit.CUT),
    Column(name="usd_per_hour_before", title="USD/h before", say=words.usd, fit=Fit.KEEP, right=True),
    Column(name="usd_per_hour_after", title="after", say=words.usd, fit=Fit.KEEP, right=True),
    Column(name="more", title="more", say=words.usd, fit=Fit.GO, right=True),
)
