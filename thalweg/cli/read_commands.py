"""`thalweg sql`, `tasks`, `regions`, `plans`: read the tables without a JVM."""

from datetime import UTC, datetime
from typing import Final

import click

from thalweg.cli.reading import reading_command
from thalweg.cli.render import print_cells, print_csv, print_json, print_table
from thalweg.query.as_of import AsOf, Version
from thalweg.query.query import QueryAnswer, query, quote
from thalweg.query.region_report import region_rows
from thalweg.query.sql_statement import QueryRefusedError
from thalweg.scheduling.world.tasks import TaskState

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
        click.echo(f"… cut off after {len(rows)} rows; --max-rows 0 prints all", err=True)


@click.command(short_help="List tasks and their states.")
@click.option("--state", type=click.Choice([state.value for state in TaskState]), multiple=True, help="Repeatable.")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--region", help="Only those with a copy in this region.")
@click.option("--task", "task_id", help="Only this task.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most recently changed first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@reading_command
def tasks(
    state: tuple[str, ...],
    tenant: str | None,
    region: str | None,
    task_id: str | None,
    limit: int,
    as_json: bool,
    warehouse: str,
    as_of: AsOf | None,
) -> None:
    """List tasks, most recently changed first, with how many there are in each state.

    \b
    Examples:
      thalweg tasks --state waiting --limit 10
      thalweg tasks --region aws:us-east-1 --json
      thalweg tasks --tenant research --as-of '1h ago'
    """
    conditions = ["true"]
    if state:
        conditions.append(f"state IN ({', '.join(map(quote, state))})")
    if tenant is not None:
        conditions.append(f"tenant = {quote(tenant)}")
    if region is not None:
        conditions.append(f"array_has(regions, {quote(region)})")
    if task_id is not None:
        conditions.append(f"task_id = {quote(task_id)}")
    where = " AND ".join(conditions)
    counts = query(
        f"SELECT state, count(*) AS n FROM tasks WHERE {where} GROUP BY state ORDER BY state", warehouse, as_of
    )
    listed = query(
        "SELECT task_id, state, tenant, priority, regions, epoch, attempt, cost_usd_per_hour, submitted_at, changed_at,"
        f" reason FROM tasks WHERE {where} ORDER BY changed_at DESC, task_id LIMIT {limit}",
        warehouse,
        as_of,
    )
    by_state = {row["state"]: row["n"] for row in counts.dicts()}
    matching = sum(by_state.values())
    if as_json:
        print_json({"matching": matching, "by_state": by_state, "tasks": listed.dicts()})
        return
    _print(listed)
    told = ", ".join(f"{count} {name}" for name, count in by_state.items())
    click.echo(f"\n{min(limit, matching)} of {matching} tasks" + (f": {told}" if told else ""))


@click.command(short_help="Show the regions: capacity, use, prices.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@reading_command
def regions(as_json: bool, warehouse: str, as_of: AsOf | None) -> None:
    """Show each region's GPUs and how many are used, its tasks, when it was last heard, and its prices.

    `last_heard_s` is the age of the newest sample that the region sent; one that was heard no more for a minute, or for
    ten seconds longer than another, is `silent`. Nodes that fell silent while others of their region speak are not
    counted. Prices are US dollars per GPU-hour.

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
    for row in rows:
        row["usd_per_gpu_hour"] = ", ".join(
            f"{price['gpu_model']}{' spot' if price['spot'] else ''} {_price(price['usd_per_gpu_hour'])}"
            for price in row.pop("prices")
        )
    columns = ("region", "state", "nodes", "gpus", "used_gpus", "utilisation", "assigned", "running", "last_heard_s")
    print_table((*columns, "usd_per_gpu_hour"), rows)
    if unpriced := [row["region"] for row in rows if "without a price" in row["usd_per_gpu_hour"]]:
        click.echo(
            f"\nNo price is known of GPUs in {', '.join(unpriced)}: they cost place.assumed_usd_per_gpu_hour, and are "
            "not used where that is not set"
        )


def _price(usd: float | None) -> str:
    return "without a price" if usd is None else f"{usd:g}"


@click.command(short_help="Show recent plans: objective, bound, gap, timings.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Most recent first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@reading_command
def plans(limit: int, as_json: bool, warehouse: str, as_of: AsOf | None) -> None:
    """Show recent plans, newest first: objective and proven bound in US dollars, their gap, counts and timings.

    `revoked` counts copies that gave way to a task of higher priority. Each task that waits counts in objective and
    bound at the price of waiting (`place.weights.wait`), which nobody pays. Below the plans: where one GPU more would
    have saved the newest plan most, in US dollars an hour (all of its pools with --json).

    \b
    Examples:
      thalweg plans --limit 5
      thalweg plans --json
    """
    # Every column there is: a table of an older version has no prices.
    rows = query(f"SELECT * FROM plans ORDER BY planned_at DESC, batch_id DESC LIMIT {limit}", warehouse, as_of).dicts()
    if as_json:
        print_json({"plans": [{name: row[name] for name in (*_PLAN, "pool_prices") if name in row} for row in rows]})
        return
    print_table(_PLAN, rows)
    if any((row["gap"] or 0.0) > _WIDE_GAP for row in rows):
        click.echo(
            "\nA wide gap is mostly a task that waits here and not in the bound, which knows no nodes: what fits in "
            "a pool by its sums may fit no node of it. thalweg explain TASK says what it waits for."
        )
    prices = rows[0].get("pool_prices") if rows else None
    if prices:
        click.echo("\nOne GPU more would have saved the newest plan:")
        print_table(
            ("pool_id", "usd_per_gpu_hour", "saves_usd_per_hour"),
            [{**price, "saves_usd_per_hour": _saving(price["saves_usd_per_hour"])} for price in prices[:5]],
        )


def _saving(usd_per_hour: float) -> float | str:
    """Say what is saved; what lies above any GPU's price is the price of waiting, and not money."""
    return usd_per_hour if usd_per_hour < _DEAREST_GPU_USD_PER_HOUR else "a waiting task would start"


_PLAN: Final = (
    *("planned_at", "strategy", "status", "objective_usd", "bound_usd", "gap", "considered", "placed", "revoked"),
    *("waiting", "read_ms", "plan_ms", "commit_ms", "publish_ms", "plan_id"),
)


def _print(answer: QueryAnswer) -> None:
    print_cells(answer.columns, answer.shown())
