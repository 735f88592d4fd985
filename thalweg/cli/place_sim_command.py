"""`thalweg place-sim`: prove the placement line by simulation."""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import click
import msgspec

from thalweg.cli.reach.recorded_campaign import go_on
from thalweg.cli.terminal.render import print_json
from thalweg.proof.campaign import FailedHistory, LineCampaign, Tally, run_campaign
from thalweg.proof.campaign_record import LineRecord, code_digest, extended
from thalweg.stack.machine import describe

_QUICK: Final = 100
_SAY_EVERY_S: Final = 1.0
_STEP: Final = 200
"""Histories between two writings of the record: a minute or two."""


@click.command(name="place-sim", short_help="Prove the placement line by simulation.")
@click.option("--histories", default=_QUICK, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the first history.")
@click.option("--processes", type=click.IntRange(min=1), help="Default: one per core.")
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the campaign's record in this file; the same call again goes on where it stopped.",
)
@click.option("--at-most", type=click.IntRange(min=1), help="With --record: stop after so many of the histories.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def place_sim(
    histories: int, seed: int, processes: int | None, record: Path | None, at_most: int | None, as_json: bool
) -> None:
    """Play seeded histories of trouble with the very driver, ledger, agents and files that run live.

    A history is half a minute of requests in which drivers and agents are killed at points of their own work,
    overtaken, frozen and cut off, records come twice, checkpoints are lost or put back, clocks step, and nodes and
    regions go. Then what can heal heals, and the books must balance: nothing lost, nothing run twice, no GPU given
    twice, ledger = tables = agents = what a restart knows. History n has seed SEED + n; a failing one is made small
    and told with what it needs.

    \b
    Examples:
      thalweg place-sim --histories 50
      thalweg place-sim --histories 1 --seed 4711
      thalweg place-sim --histories 2000 --record place-sim.json
    """
    if record is not None:
        kept = _recorded(record, histories, seed, processes, at_most or histories, as_json)
        _answer(kept, as_json, msgspec.to_builtins(kept))
        sys.exit(1 if kept.failed else 0)
    if at_most is not None:
        raise click.UsageError("--at-most needs --record, which says where to go on")
    campaign = run_campaign(histories, seed, processes=processes, progress=_progress(0, histories, as_json))
    _answer(campaign, as_json, msgspec.to_builtins(campaign) | {"machine": describe()})
    sys.exit(1 if campaign.failed else 0)


def _recorded(
    path: Path, histories: int, seed: int, processes: int | None, at_most: int, is_silent: bool
) -> LineRecord:
    """Go on with a recorded campaign for at most so many histories."""

    def run(kept: LineRecord, count: int) -> LineCampaign:
        told = _progress(kept.done, histories, is_silent)
        return run_campaign(count, kept.seed + kept.done, processes=processes, progress=told)

    return go_on(
        path,
        LineRecord,
        histories=histories,
        seed=seed,
        code=code_digest(),
        at_most=at_most,
        step=_STEP,
        run=run,
        extended=extended,
    )


def _progress(before: int, histories: int, is_silent: bool) -> Callable[[Tally], None]:
    """Say how far a campaign is, once a second."""
    said_at = time.monotonic()

    def say(done: Tally) -> None:
        nonlocal said_at
        if not is_silent and sys.stderr.isatty() and time.monotonic() - said_at > _SAY_EVERY_S:
            said_at = time.monotonic()
            told = f"{before + done.histories:,} of {histories:,}, {done.died_at.total():,} deaths since"
            click.echo(f"\r{told}, {len(done.failed)} failed", nl=False, err=True)

    return say


def _answer(found: LineCampaign | LineRecord, as_json: bool, document: Mapping[str, object]) -> None:
    if as_json:
        print_json(document)
        return
    played = found.done if isinstance(found, LineRecord) else found.histories
    seconds = found.running_seconds if isinstance(found, LineRecord) else found.seconds
    click.echo(
        f"{played:,} histories from seed {found.seed}: {found.failed} failed, "
        f"{found.deaths:,} processes killed at {len(found.died_at)} kinds of point, "
        f"{seconds:,.0f} s on {found.processes} processes"
    )
    for title, counts in (("happened", found.happened), ("tasks", found.tasks)):
        click.echo(f"{title}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
    for failure in found.failures:
        _show_failure(failure)


def _show_failure(failure: FailedHistory) -> None:
    click.echo(f"\nseed {failure.seed}: {failure.violations[0]}")
    for line in (*failure.violations[1:], *failure.acts):
        click.echo(f"  {line}")
    click.echo(f"  replay: {failure.replay}")
