"""`thalweg sql`, `regions`, `plans`: read the tables without a JVM."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import click

from thalweg.cli.reach.reading import reading_command
from thalweg.cli.terminal import words
from thalweg.cli.terminal.render import (
    Column,
    Fit,
    on_one_line,
    print_cells,
    print_csv,
    print_json,
    print_table,
    state_colour,
)
from thalweg.query.reports.region_report import region_rows
from thalweg.query.sql.as_of import AsOf, Version
from thalweg.query.sql.query import query
from thalweg.query.sql.sql_statement import QueryRefusedError
from thalweg.scheduling.counted import counted

_WIDE_GAP: Final = 0.01
_DEAREST_GPU_USD_PER_HOUR: Final = 1_000.0
_TABLE_ROWS: Final = 1_000  # more than anybody reads on a screen


@click.command(short_help="Run one SQL query over the tables.")
@click.argument("statement")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Same as --format json.")
@click.option(
    "--max-rows",
    type=click.IntRange(min=0),
    help=f"Stop after so many rows; 0 prints all.  [default: {_TABLE_ROWS} for table, all for csv and json]",
)
@reading_command
def sql(statement: str, form: str, as_json: bool, max_rows: int | None, warehouse: str, as_of: AsOf | None) -> None:
    """Run one SQL query (DataFusion's dialect) over every table, without starting a JVM.

    Queries only read: SELECT, WITH, EXPLAIN, SHOW, DESCRIBE. A table that nobody has written yet appears empty.

    Two columns of one name are told apart as `a` and `a:1`. Times are UTC, also those that name no zone; durations are
    ISO 8601, decimals are text with all their digits, bytes are base64, NaN and infinity are null.

    --as-of VERSION reads one table at its Delta version. --as-of TIME answers from the rows' own times, folds `tasks`
    and `placements` from the ledger, and uses Delta versions for the rest while the log reaches back so far.

    A query takes a quarter of the free memory at most, and its answer has at most 100 MB: the jobs run beside it.

    \b
    Examples:
      thalweg sql "select state, count(*) from tasks group by state"
      thalweg sql "select * from placements where region = 'aws:us-east-1'" --as-of '10m ago'
      thalweg sql "describe decisions"
      thalweg sql "select region, unnest(nodes) from placements" --json
    """
    form = "json" if as_json else form
    limit = max_rows if max_rows is not None else (_TABLE_ROWS if form == "table" else 0)
    answer = query(statement, warehouse, as_of, limit or None)
    columns, rows = answer.columns, answer.shown()
    if form == "json":
        described = [{"name": name, "type": kind} for name, kind in zip(columns, answer.types, strict=True)]
        named = [dict(zip(columns, row, strict=True)) for row in rows]
        print_json({"columns": described, "rows": named, "row_count": len(rows), "cut_off": answer.cut_off})
    elif form == "csv":
        print_csv(columns, rows)
    else:
        print_cells(columns, rows, exact=True)
    if answer.cut_off and form != "json":
        click.echo(f"… cut off after {counted(len(rows), 'row')}; --max-rows 0 prints all", err=True)


@click.command(short_help="Show the regions: capacity, use, prices.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@reading_command
def regions(as_json: bool, warehouse: str, as_of: AsOf | None) -> None:
    """Show each region's GPUs and how many are used, its tasks, when it was last heard, and its prices.

    `last_heard_s` is the age of the newest sample that the region sent; one that was heard no more for a minute, or for
    ten seconds longer than another, is `silent`. Nodes that fell silent while others of their region speak are not
    counted. Prices are US dollars per GPU-hour. What is drained by an order (`thalweg orders`) is named below.

    \b
    Examples:
      thalweg regions
      thalweg regions --json --as-of '30m ago'
    """
    if isinstance(as_of, Version):
        raise QueryRefusedError(f"--as-of {as_of.number} is a version of one table, regions reads five; give a time")
    now = as_of or datetime.now(UTC)
    rows = region_rows(warehouse, as_of, now)
    if as_json:
        print_json({"regions": rows})
        return
    if not rows:
        click.echo("No region has been heard of. Start one here: thalweg agent --region lab --host")
        return
    drained = [place for row in rows for place in _drained(row)]
    for row in rows:
        row["usd_per_gpu_hour"] = ", ".join(
            f"{price['gpu_model']}{' spot' if price['spot'] else ''} {_price(price['usd_per_gpu_hour'])}"
            for price in row.pop("prices")
        )
    print_table(_REGION, rows)
    if drained:
        click.echo(
            f"\nDrained, so that nothing new is placed there: {on_one_line(', '.join(drained))}; to let it take tasks "
            "again: thalweg undrain REGION[/NODE]"
        )
    if unpriced := [row["region"] for row in rows if "without a price" in row["usd_per_gpu_hour"]]:
        click.echo(
            f"\nNo price is known of GPUs in {on_one_line(', '.join(unpriced))}: they cost "
            "place.assumed_usd_per_gpu_hour, and are not used where that is not set"
        )


def _drained(row: dict[str, Any]) -> list[str]:
    """Take the drained places of a region out of its row, by name."""
    nodes = [f"{row['region']}/{node_id}" for node_id in row.pop("drained_nodes")]
    return [row["region"], *nodes] if row.pop("drained") else nodes


def _price(usd: float | None) -> str:
    return "without a price" if usd is None else words.usd(usd)


def _heard(age_s: float | None) -> str:
    return "never" if age_s is None else f"{words.seconds(age_s)} ago"


_REGION: Final = (
    Column(name="region", fit=Fit.KEEP),
    Column(name="state", fit=Fit.KEEP, colour=state_colour),
    Column(name="nodes", say=words.amount, fit=Fit.GO, right=True),
    Column(name="gpus", title="GPUs", say=words.amount, fit=Fit.KEEP, right=True),
    Column(name="used_gpus", title="used", say=words.amount, fit=Fit.KEEP, right=True),
    Column(name="utilisation", title="in use", say=words.percent, fit=Fit.GO, right=True),
    Column(name="assigned", say=words.amount, fit=Fit.GO, right=True),
    Column(name="running", say=words.amount, fit=Fit.GO, right=True),
    Column(name="last_heard_s", title="heard", say=_heard, fit=Fit.KEEP, right=True),
    Column(name="usd_per_gpu_hour", title="USD per GPU-hour", fit=Fit.WRAP),
)


@click.command(short_help="Show recent plans: what they placed and cost, what waits and what its delay costs.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Most recent first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@reading_command
def plans(limit: int, as_json: bool, warehouse: str, as_of: AsOf | None) -> None:
    """Show recent plans, newest first: money, delay, and how much is placed and waits.

    `costs` is what the copies that a plan placed cost an hour together. `delay` is what an hour's delay of all that
    still waits costs. `gap` says how much less the same copies could cost, as far as is proven. `revoked` counts copies
    that gave way to a task of higher priority. Below the plans: what one GPU more in a pool would save now, an hour, to
    who waits or to what had to go where it is dearer (all of its pools with --json).

    \b
    Examples:
      thalweg plans --limit 5
      thalweg plans --json
    """
    rows = query(f"SELECT * FROM plans ORDER BY planned_at DESC, batch_id DESC LIMIT {limit}", warehouse, as_of).dicts()
    if as_json:
        print_json({"plans": [{name: row[name] for name in _PLAN} for row in rows]})
        return
    if not rows:
        click.echo("No plan yet: the place job plans when a task waits. Is it running? thalweg ps")
        return
    shown = [{**row, "money_gap": money_gap(row)} for row in rows]
    print_table(_plan_columns(as_of if isinstance(as_of, datetime) else datetime.now(UTC)), shown)
    if any((row["gap"] or 0.0) > _WIDE_GAP for row in rows):
        click.echo(
            "\nA plan left tasks waiting that fit a pool by its sums: they may fit no node of it. "
            "thalweg explain TASK says what one waits for."
        )
    if any(row["delay_usd_per_hour"] is None for row in rows):
        click.echo("\nPlans of an older version say neither money nor delay; --json has their objective.")
    if prices := rows[0]["pool_prices"]:
        is_old = rows[0]["delay_usd_per_hour"] is None
        click.echo("\nOne GPU more would save:")
        print_table(_pool_price_columns(is_old=is_old), prices[:5])


def money_gap(row: Mapping[str, Any]) -> float | None:
    """Say by which share of its money what a plan placed could cost less, as far as is proven; None of nothing."""
    return 1.0 - row["least_usd"] / row["placed_usd"] if row["placed_usd"] else None


def _old_saving(usd_per_hour: float | None) -> str:
    """Say what an older version's price saves: what lies above any GPU's price is its price of waiting."""
    if usd_per_hour is not None and usd_per_hour >= _DEAREST_GPU_USD_PER_HOUR:
        return "a waiting task would start"
    return words.usd(usd_per_hour)


def _pool_price_columns(*, is_old: bool) -> tuple[Column, ...]:
    return (
        Column(name="pool_id", title="pool", fit=Fit.KEEP),
        Column(name="usd_per_gpu_hour", title="costs USD/h", say=words.usd, fit=Fit.KEEP, right=True),
        Column(
            name="saves_usd_per_hour",
            title="saves USD/h",
            say=_old_saving if is_old else words.usd,
            fit=Fit.KEEP,
            right=True,
        ),
    )


def _plan_columns(now: datetime) -> list[Column]:
    times = [
        Column(name=f"{step}_ms", title=step, say=words.milliseconds, fit=Fit.GO, right=True)
        for step in ("read", "plan", "commit", "publish")
    ]
    return [
        Column(name="planned_at", title="planned", say=words.ago(now), fit=Fit.KEEP, right=True),
        Column(name="strategy", fit=Fit.GO),
        Column(name="status", fit=Fit.KEEP, colour=state_colour),
        Column(name="considered", say=words.amount, fit=Fit.GO, right=True),
        Column(name="placed", say=words.amount, fit=Fit.KEEP, right=True),
        Column(name="placed_usd_per_hour", title="costs USD/h", say=words.usd, fit=Fit.KEEP, right=True),
        Column(name="money_gap", title="gap", say=words.percent, fit=Fit.KEEP, right=True),
        Column(name="revoked", say=words.amount, fit=Fit.GO, right=True),
        Column(name="waiting", say=words.amount, fit=Fit.KEEP, right=True),
        Column(name="delay_usd_per_hour", title="delay USD/h", say=words.usd, fit=Fit.KEEP, right=True),
        *times,
        Column(name="plan_id", title="plan", fit=Fit.GO),
    ]


_PLAN: Final = (
    *("planned_at", "strategy", "status", "objective_usd", "bound_usd", "gap", "considered", "placed", "revoked"),
    *("waiting", "read_ms", "plan_ms", "commit_ms", "publish_ms", "plan_id", "pool_prices"),
    *("placed_usd_per_hour", "delay_usd_per_hour", "placed_usd", "least_usd"),
)
