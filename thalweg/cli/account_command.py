"""`thalweg account`: what tasks have cost, also those that ended long ago."""

from datetime import UTC, datetime
from typing import Final

import click

from thalweg.cli.reach.reading import reading_command
from thalweg.cli.reach.said import SAID
from thalweg.cli.terminal import words
from thalweg.cli.terminal.render import Column, Fit, print_json, print_table
from thalweg.query.reports.account_report import SUMS, AccountBy, account_report
from thalweg.query.sql.as_of import AsOf, Version, parse_as_of
from thalweg.query.sql.query import TableReader
from thalweg.query.sql.sql_statement import QueryRefusedError

_NOBODY: Final = {"region": "(waiting)", "tenant": "(none)", "task": "(none)", "day": "(none)"}


@click.command(short_help="Sum what tasks have cost: GPU-hours, dollars, egress, waiting.")
@click.option(
    "--by",
    type=click.Choice([one.value for one in AccountBy]),
    default=AccountBy.TENANT.value,
    show_default=True,
    help="What is summed together.",
)
@click.option("--since", default="30d ago", show_default=True, metavar="TIME", help="2026-11-21T12:00:00Z or 7d.")
@click.option("--tenant", type=SAID, help="Only this tenant's.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="So many are listed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with all rows.")
@reading_command
def account(
    by: str, since: str, tenant: str | None, limit: int, as_json: bool, warehouse: str, as_of: AsOf | None
) -> None:
    """Sum what was held, paid, moved and waited for, by tenant, region, task or day (UTC), the dearest first.

    A copy counts from its assignment until its GPUs are free again, at the price that was planned; egress is what was
    planned for its inputs, booked when the copy has ended. What runs and waits now counts up to now. The table
    `account` keeps it for 400 days, also where the tasks are gone; it is brought up to date every ten seconds.

    \b
    Examples:
      thalweg account
      thalweg account --by day --since 7d --tenant research
      thalweg account --by task --json
    """
    if as_of is not None:
        raise QueryRefusedError("--as-of: an account is of a time up to now; --since says from when")
    now = datetime.now(UTC)
    moment = parse_as_of(since, now, "--since")
    if isinstance(moment, Version):
        raise QueryRefusedError(f"--since {since!r}: allowed are an age (7d) or a time (2026-11-21T12:00:00Z)")
    with TableReader(warehouse) as reader:
        found = account_report(reader, AccountBy(by), moment, now, tenant=tenant)
    if as_json:
        print_json({"by": by, "since": moment, "until": now, "rows": found.rows, "total": found.total})
        return
    if not found.rows:
        click.echo(f"Nothing was held or waited for since {since}. The jobs keep the account: thalweg ps")
        return
    rows = [{**row, by: row[by] or _NOBODY[by]} for row in found.rows[:limit]]
    print_table([Column(name=by, fit=Fit.KEEP), *_FIGURES], [*rows, {by: "all", **found.total}])
    if len(found.rows) > limit:
        click.echo(f"\n{limit:,} of {len(found.rows):,}; --limit shows more")


_TITLES: Final = {
    "gpu_hours": "GPU-hours",
    "usd": "USD",
    "egress_gb": "egress GB",
    "egress_usd": "egress USD",
    "waited_h": "waited h",
}
_FIGURES: Final = [
    Column(
        name=name,
        title=_TITLES[name],
        say=words.usd if name.endswith("usd") else words.amount,
        fit=Fit.GO if name.startswith("egress") else Fit.KEEP,
        right=True,
    )
    for name in SUMS
]
