"""`thalweg rollout-sim`: roll-outs over simulated edges, with the deciding code that runs live."""

import sys
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from thalweg.cli.reach.finite import FINITE, FiniteRange
from thalweg.cli.reach.recorded_campaign import go_on
from thalweg.cli.terminal.render import print_json
from thalweg.federation.rollout_campaign import (
    RolloutCampaign,
    RolloutRecord,
    campaign_plan,
    extended,
    kept_promises,
    play_seeds,
    rollout_code_digest,
    summaries,
    summary,
)
from thalweg.learning.rollout.plan import RolloutPlanError
from thalweg.learning.simulation.edge_fleet import FleetTerms
from thalweg.stack.machine import describe

_STEP: Final = 20
"""Seeds between two writings of the record: some five seconds."""


@click.command(name="rollout-sim", short_help="Try roll-outs over simulated edges, harmless and harmful.")
@click.option("--seeds", default=20, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="The first.")
@click.option("--edges", default=1_000, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option(
    "--offline", default=0.3, show_default=True, type=FiniteRange(0, 0.95), help="Share of them that is away."
)
@click.option("--soak", "soak_h", default=12.0, show_default=True, type=FINITE, help="Of the first wave, hours.")
@click.option("--share", default=0.5, show_default=True, type=FINITE, help="Of requests on an edge of the wave.")
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the campaign's record in this file; the same call again goes on where it stopped.",
)
@click.option("--at-most", type=click.IntRange(min=1), help="With --record: stop after so many of the seeds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def rollout_sim(
    seeds: int,
    seed: int,
    edges: int,
    offline: float,
    soak_h: float,
    share: float,
    record: Path | None,
    at_most: int | None,
    as_json: bool,
) -> None:
    """Play roll-outs over edges that come and go, and tell how many requests met harm.

    Of each seed four are played: the version is no worse, answers 3 points more wrongly, drifts there, or is half as
    slow again. What is decided is decided by the code that runs live. Fails where a harmful version met more than 2 %
    of the requests or was not taken back, or more than 1 % of those that are no worse were.

    \b
    Examples:
      thalweg rollout-sim --seeds 20
      thalweg rollout-sim --edges 200 --offline 0.5 --json
      thalweg rollout-sim --seeds 1000 --record rollout-sim.json
    """
    try:
        plan = campaign_plan(soak_h, share)
    except RolloutPlanError as error:
        raise click.UsageError(str(error)) from error
    terms = FleetTerms(edges=edges, offline=offline)
    if record is None:
        if at_most is not None:
            raise click.UsageError("--at-most needs --record, which says where to go on")
        run = play_seeds(plan, terms, seed, seeds)
        found = {str(harm): summary(ends) for harm, ends in run.ends.items()}
        _answer(found, as_json, {"seeds": seeds, "seed": seed, "seconds": round(run.seconds, 1), "machine": describe()})
        return
    fields = {"edges": edges, "offline": offline, "soak_h": soak_h, "share": share}

    def check(kept: RolloutRecord) -> None:
        if different := [name for name, value in fields.items() if getattr(kept, name) != value]:
            raise click.UsageError(f"{record} has another {different[0]}; name another file")

    def play(kept: RolloutRecord, count: int) -> RolloutCampaign:
        check(kept)
        if sys.stderr.isatty():
            click.echo(f"\r{kept.done:,} of {seeds:,}", nl=False, err=True)
        return play_seeds(plan, terms, kept.seed + kept.done, count)

    kept = go_on(
        record,
        RolloutRecord,
        histories=seeds,
        seed=seed,
        code=rollout_code_digest(),
        at_most=at_most or seeds,
        step=_STEP,
        run=play,
        extended=extended,
        begin=fields,
    )
    check(kept)
    told = msgspec.to_builtins(kept)
    _answer(summaries(kept), as_json, {name: value for name, value in told.items() if name != "ends"})


def _answer(found: dict[str, dict[str, Any]], as_json: bool, told: dict[str, Any]) -> None:
    ok = kept_promises(found)
    if as_json:
        print_json({**told, "harms": found, "ok": ok})
    else:
        for harm, one in found.items():
            click.echo(
                f"{harm:9} {one['completed']:,} completed, {one['rolled_back']:,} taken back; "
                f"exposed {100 * one['exposed_mean']:.2f} % on the average, {100 * one['exposed_max']:.2f} % at most; "
                f"decided within {one['decided_h_max']:.1f} h"
            )
    sys.exit(0 if ok else 1)
