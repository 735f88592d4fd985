"""`thalweg place-sim`: prove the placement line by simulation."""

import sys
import time
from pathlib import Path
from typing import Final

import click
import msgspec

from thalweg.cli.render import print_json
from thalweg.proof.campaign import LineCampaign, Tally, run_campaign
from thalweg.stack.machine import describe

_QUICK: Final = 100
_SAY_EVERY_S: Final = 1.0


@click.command(name="place-sim", short_help="Prove the placement line by simulation.")
@click.option("--histories", default=_QUICK, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the first history.")
@click.option("--processes", type=click.IntRange(min=1), help="Default: one per core.")
@click.option("--record", type=click.Path(dir_okay=False, path_type=Path), help="Keep what was found in this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def place_sim(histories: int, seed: int, processes: int | None, record: Path | None, as_json: bool) -> None:
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
      thalweg place-sim --histories 5000 --record place-sim.json
    """
    said_at = time.monotonic()

    def progress(done: Tally) -> None:
        nonlocal said_at
        if not as_json and sys.stderr.isatty() and time.monotonic() - said_at > _SAY_EVERY_S:
            said_at = time.monotonic()
            told = f"\r{done.histories:,} of {histories:,}, {done.died_at.total():,} deaths, {len(done.failed)} failed"
            click.echo(told, nl=False, err=True)

    campaign = run_campaign(histories, seed, processes=processes, progress=progress)
    document = msgspec.to_builtins(campaign) | {"machine": describe()}
    if record is not None:
        record.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    if as_json:
        print_json(document)
    else:
        _show(campaign)
    sys.exit(1 if campaign.failed else 0)


def _show(campaign: LineCampaign) -> None:
    click.echo(
        f"{campaign.histories:,} histories from seed {campaign.seed}: {campaign.failed} failed, "
        f"{campaign.deaths:,} processes killed at {len(campaign.died_at)} kinds of point, "
        f"{campaign.seconds:,.0f} s on {campaign.processes} processes"
    )
    for title, counts in (("happened", campaign.happened), ("tasks", campaign.tasks)):
        click.echo(f"{title}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
    for failure in campaign.failures:
        click.echo(f"\nseed {failure.seed}: {failure.violations[0]}")
        for line in (*failure.violations[1:], *failure.acts):
            click.echo(f"  {line}")
        click.echo(f"  replay: {failure.replay}")
