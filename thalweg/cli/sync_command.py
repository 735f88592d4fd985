"""`thalweg sync`: how far every region is; `thalweg sync-sim`: the simulator."""

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec
from deltalake.exceptions import TableNotFoundError

from thalweg.cli.reach.reading import reading_command
from thalweg.cli.reach.recorded_campaign import go_on
from thalweg.cli.terminal import words
from thalweg.cli.terminal.render import Column, Fit, print_json, print_table
from thalweg.query.reports.sync_report import sync_document
from thalweg.query.sql.as_of import AsOf
from thalweg.scheduling.counted import counted
from thalweg.sync.proof.campaign import Campaign, FoundFailure, run_campaign
from thalweg.sync.proof.campaign_record import CampaignRecord, code_digest, extended
from thalweg.sync.proof.mutants import MUTANTS
from thalweg.sync.tables.snapshots import ReplicaSnapshotError, take_snapshot, write_snapshot

_QUICK: Final = 2_000


@click.command(short_help="Show each region's replication: lag, gaps, conflicts, clock, digests.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--snapshot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all records into this file, for a region that joins late.",
)
@click.option("--prefix", default="thalweg", show_default=True, help="Topic prefix, for --snapshot.")
@reading_command
def sync(as_json: bool, snapshot: Path | None, prefix: str, warehouse: str, as_of: AsOf | None) -> None:
    """Show how far every region is: what it lacks, what the centre lacks of it, its clock and its digests.

    `waiting` are writes that the centre has not confirmed, `lag` records of the replica topic that the region has not
    acknowledged, `parked` updates whose stamp is ahead of time, `warned` those merged with a stamp a little ahead,
    `offset_ms` the region's clock minus the centre's, transport included. `agrees` tells whether the region's digests
    equalled the centre's when last compared.

    \b
    Examples:
      thalweg sync
      thalweg sync --json
      thalweg sync --snapshot records.gz
      thalweg sql "select * from conflicts order by found_at desc limit 20"
    """
    if snapshot is not None:
        try:
            taken = take_snapshot(warehouse)
        except (ReplicaSnapshotError, TableNotFoundError) as error:
            raise click.ClickException(str(error)) from error
        size = write_snapshot(snapshot, taken, prefix, datetime.now(UTC))
        found = {"file": str(snapshot), "records": len(taken.records), "position": taken.position, "bytes": size}
        if as_json:
            print_json(found)
        else:
            click.echo(
                f"{counted(len(taken.records), 'record')} up to position {taken.position}: {snapshot}, {size} bytes"
            )
        return
    document = sync_document(warehouse, as_of, datetime.now(UTC))
    if as_json:
        print_json(document)
        return
    counts = ("waiting", "lag", "gaps_open", "conflicts", "parked", "warned", "refused", "offset_ms")
    columns = [
        Column(name="region", fit=Fit.KEEP),
        Column(name="member", fit=Fit.GO),
        *(Column(name=name, say=words.amount, fit=Fit.KEEP, right=True) for name in counts),
        Column(name="agrees", fit=Fit.KEEP),
        Column(name="heard_s", title="heard before", say=words.seconds, fit=Fit.KEEP, right=True),
    ]
    print_table(columns, document["regions"])
    for title, rows, names in (
        ("Open gaps", document["gaps"], ("region", "epoch", "first_seq", "last_seq", "found_at", "asked_at")),
        (
            "Newest conflicts",
            document["newest_conflicts"],
            ("key", "policy", "winner_region", "left_value", "right_value"),
        ),
        ("Newest refusals", document["newest_refusals"], ("at", "region", "verdict", "key", "reason")),
    ):
        if rows:
            click.echo(f"\n{title}")
            print_table(list(names), rows)
    totals = document["totals"]
    told = (counted(totals[f"{one}s"], one) for one in ("record", "tombstone", "conflict"))
    click.echo(f"\n{', '.join(told)}, {totals['gaps_open']} gaps open")


@click.command(name="sync-sim", short_help="Prove the sync plane by simulation.")
@click.option("--histories", default=_QUICK, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the first history.")
@click.option("--processes", type=click.IntRange(min=1), help="Default: one per core.")
@click.option(
    "--mutant",
    type=click.Choice([mutant.name for mutant in MUTANTS]),
    help="Put a deliberate mistake in, to see that it is found.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the campaign's record in this file; the same call again goes on where it stopped.",
)
@click.option("--at-most", type=click.IntRange(min=1), help="With --record: stop after so many of the histories.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def sync_sim(
    histories: int,
    seed: int,
    processes: int | None,
    mutant: str | None,
    record: Path | None,
    at_most: int | None,
    as_json: bool,
) -> None:
    """Run simulated histories of five regions against the very merge and replica code that runs live.

    Each history checks that all copies end equal, that no acknowledged write is lost, that values and conflicts are
    what an independent oracle says, that no deleted record returns, and that metadata stays bounded. History n has seed
    SEED + n; a failing one is replayed alone by its seed.

    \b
    Examples:
      thalweg sync-sim --histories 2000 --seed 1
      thalweg sync-sim --histories 100 --mutant no-tie-break
      thalweg sync-sim --histories 1000000 --record sync-sim.json
    """
    if record is not None:
        if mutant is not None:
            raise click.UsageError("a record is of the unbroken code; leave out --mutant or --record")
        kept = _recorded(record, histories, seed, processes, at_most or histories)
        if as_json:
            print_json(msgspec.to_builtins(kept))
        else:
            _show_record(kept)
        sys.exit(1 if kept.failed else 0)
    if at_most is not None:
        raise click.UsageError("--at-most needs --record, which says where to go on")

    # Silence between rounds would look like a hang; a million histories take half an hour.
    shown_at = time.monotonic()

    def progress(done: int) -> None:
        nonlocal shown_at
        if not as_json and sys.stderr.isatty() and time.monotonic() - shown_at > 1:
            shown_at = time.monotonic()
            click.echo(f"\r{done:,} of {histories:,}", nl=False, err=True)

    campaign = run_campaign(histories, seed, processes=processes, mutant=mutant, progress=progress)
    if as_json:
        print_json(msgspec.to_builtins(campaign) | {"machine": {"cores": os.cpu_count()}, "mutant": mutant})
    else:
        _show(campaign)
    sys.exit(1 if campaign.failed else 0)


_STEP: Final = 5_000  # histories between two writings of the record: some ten seconds


def _recorded(path: Path, histories: int, seed: int, processes: int | None, at_most: int) -> CampaignRecord:
    """Go on with a recorded campaign for at most so many histories."""

    def run(kept: CampaignRecord, count: int) -> Campaign:
        if sys.stderr.isatty() and kept.done:
            click.echo(f"\r{kept.done:,} of {histories:,}, {kept.failed} failed", nl=False, err=True)
        return run_campaign(count, kept.seed + kept.done, processes=processes)

    return go_on(
        path,
        CampaignRecord,
        histories=histories,
        seed=seed,
        code=code_digest(),
        at_most=at_most,
        step=_STEP,
        run=run,
        extended=extended,
    )


def _show_record(kept: CampaignRecord) -> None:
    click.echo(
        f"\r{kept.done:,} of {kept.histories:,} histories from seed {kept.seed}: {kept.failed} failed, "
        f"{kept.running_seconds:,.0f} s on {kept.processes} processes"
    )
    click.echo(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in kept.happened.items()))
    for failure in kept.failures:
        _show_failure(failure)


def _show_failure(failure: FoundFailure) -> None:
    click.echo(f"\nseed {failure.seed}: {failure.check}: {failure.detail}")
    for line in failure.trace:
        click.echo(f"  {line}")
    click.echo(f"  replay: {failure.replay}")


def _show(campaign: Campaign) -> None:
    click.echo(
        f"\r{campaign.histories:,} histories from seed {campaign.seed}: {campaign.failed} failed, "
        f"{campaign.seconds:.1f} s, {campaign.histories_per_second:,.0f}/s on {campaign.processes} processes"
    )
    click.echo(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in campaign.happened.items()))
    for failure in campaign.failures:
        _show_failure(failure)
