"""`thalweg forecast durations` and `thalweg forecast demand`: learn from what has been, and say how good that is."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from thalweg.cli.reach.finite import FiniteRange
from thalweg.cli.reach.output_file import check_output
from thalweg.cli.reach.reading import WrongCall, reading_command
from thalweg.cli.reach.standard_output import note_done
from thalweg.cli.terminal import words
from thalweg.cli.terminal.render import Column, print_json, print_table
from thalweg.forecast.asked_demand import AskedDemand, demand_in_jobs, demand_in_tables, demand_references
from thalweg.forecast.ended_holds import hold_history, hold_references, holds_in_jobs, holds_in_tables
from thalweg.forecast.forecasting import forecast_file
from thalweg.forecast.job_lists import read_job_list
from thalweg.learning.forecast.columns import ForecastInputError
from thalweg.learning.forecast.demand_rows import AHEAD_H, LEAST_GPU_H, demand_history, demand_rows
from thalweg.learning.forecast.forecast_file import ForecastFile, written
from thalweg.learning.forecast.scores import ForecastScore
from thalweg.query.sql.as_of import AsOf
from thalweg.query.sql.query import TableReader
from thalweg.replay.estimates import Estimates
from thalweg.replay.traces import TraceError

_HOUR_S: Final = 3_600.0
_FORMATS: Final = (".svg", ".png")


@click.group()
def forecast() -> None:
    """Forecast how long tasks hold their places, and what will be asked for (docs/how-to/forecast.md)."""


_jobs = click.option(
    "--jobs",
    "jobs_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Learn from a job list in the Philly trace's format instead of the tables.",
)
_out = click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the forecast (.json).")
_held_out = click.option(
    "--held-out",
    type=FiniteRange(0.05, 0.8),
    default=0.3,
    show_default=True,
    help="Share of what there is, the latest, that judges what is learnt from the rest.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@forecast.command(short_help="Learn how long tasks hold their places.")
@_jobs
@click.option(
    "--estimates",
    type=click.Choice(list(map(str, Estimates))),
    default=str(Estimates.HOSTILE),
    show_default=True,
    help="--jobs: what requests are taken to say, as in thalweg replay.",
)
@_held_out
@click.option("--seed", type=click.IntRange(min=0), default=42, show_default=True, help="--jobs: of the estimates.")
@_out
@_json
@reading_command
def durations(
    jobs_path: Path | None,
    estimates: str,
    held_out: float,
    seed: int,
    out: Path | None,
    as_json: bool,
    warehouse: str,
    as_of: AsOf | None,
) -> None:
    """Learn how long tasks hold their places, from those that have ended by themselves.

    What had ended when the last part (--held-out) began is learnt from; what began then judges it, beside the request's
    word and what was usual. Then all is learnt from, for the file: `thalweg explain-model FILE` says what it rests on.

    \b
    Examples:
      thalweg forecast durations --out durations.json
      thalweg forecast durations --jobs philly_jobs_to_2017-11.csv.gz --estimates hostile --json
    """
    _check(out, (".json",), "--out")
    try:
        if jobs_path is not None:
            holds = holds_in_jobs(read_job_list(jobs_path), Estimates(estimates), seed)
        else:
            with TableReader(warehouse, as_of) as reader:
                holds = holds_in_tables(reader)
        file, trial = forecast_file("durations", hold_history(holds), held_out, hold_references(), unit_s=1.0)
    except (ForecastInputError, TraceError) as error:
        raise WrongCall(str(error)) from error
    _write(file, out)
    if as_json:
        print_json(_told(file) | {"learnt_from": trial.learnt_from, "left_out": trial.left_out})
        return
    click.echo(f"{file.rows:,} runs from {file.since} to {file.until}. {trial.learnt_from:,} had ended before the last")
    click.echo(f"{held_out:.0%} began, and forecast how long those took, {file.tried_on:,}:\n")
    _show(file, out)


@forecast.command(short_help="Forecast what will be asked for in the next 24 hours.")
@_jobs
@_held_out
@click.option("--region", help="Learn from this region alone and show its hours; by default all, and sums of medians.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw it, too: a .svg or .png file.")
@_out
@_json
@reading_command
def demand(
    jobs_path: Path | None,
    held_out: float,
    region: str | None,
    plot: Path | None,
    out: Path | None,
    as_json: bool,
    warehouse: str,
    as_of: AsOf | None,
) -> None:
    """Forecast the GPU-hours that will be asked for, by region and hour, for 24 hours.

    A task counts in the hour in which it came, in the region where it was placed first, with the hours that its request
    says. Every 29 hours the next 24 are forecast from what was known then; the last part of these (--held-out) judges
    what was learnt from the others, beside what it was before and exponential smoothing. With --region nothing is
    learnt from other regions, and --out and --json hold that region alone.

    \b
    Examples:
      thalweg forecast demand --plot demand.svg
      thalweg forecast demand --region aws:us-east-1 --json
      thalweg forecast demand --jobs philly_jobs_to_2017-11.csv.gz --out demand.json
    """
    _check(out, (".json",), "--out")
    _check(plot, _FORMATS, "--plot")
    until = as_of if isinstance(as_of, datetime) else datetime.now(UTC)
    try:
        if jobs_path is not None:
            asked = demand_in_jobs(read_job_list(jobs_path), region)
        else:
            with TableReader(warehouse, as_of) as reader:
                asked = demand_in_tables(reader, until, region)
        history = demand_history(asked.regions, asked.gpu_hours, asked.first_hour)
        now = demand_rows(asked.gpu_hours, asked.first_hour, asked.gpu_hours.shape[1])
        file, trial = forecast_file("demand", history, held_out, demand_references(), unit_s=_HOUR_S, usual=now)
    except (ForecastInputError, TraceError) as error:
        raise WrongCall(str(error)) from error
    _write(file, out)
    hours = _hours(file, asked)
    if plot is not None:
        from thalweg.cli.terminal.demand_plot import draw_demand

        draw_demand(asked, hours, plot)
    if as_json:
        print_json(_told(file) | {"learnt_from": trial.learnt_from, "hours": hours})
        return
    click.echo(f"GPU-hours that will be asked for, from {hours[0]['hour']}: between the two ends 80 of 100 times")
    if region is None:
        _show_sums(asked, hours)
    else:
        print_table(["hour", *_ENDS], hours)
    click.echo(f"\nTried on {file.tried_on:,} later hours:\n")
    _show(file, out)


_ENDS: Final = tuple(Column(name=name, say=words.amount, right=True) for name in ("least", "middle", "most"))


def _check(file: Path | None, endings: Sequence[str], option: str) -> None:
    if file is not None and file.suffix not in endings:
        raise WrongCall(f"{option} {file}: allowed are files that end in {' or '.join(endings)}")
    check_output(option, file)


def _write(file: ForecastFile, out: Path | None) -> None:
    if out is not None:
        out.write_bytes(written(file))
        note_done(f"{out} written")


def _told(file: ForecastFile) -> dict[str, Any]:
    return {
        "what": file.what,
        "rows": file.rows,
        "since": file.since,
        "until": file.until,
        "tried_on": file.tried_on,
        "scores": {name: _score(score) for name, score in file.scores.items()},
        "base": file.columns[file.base].name,
        "chain": [file.columns[at].name for at in file.chain],
        "importance": [
            {"column": one.column, "added": one.added, "deviation": one.deviation} for one in file.importance
        ],
    }


def _score(score: ForecastScore) -> dict[str, Any]:
    return {
        "error": round(score.error, 4),
        "times_off": round(float(np.exp(score.error)), 3),
        "coverage": round(score.coverage, 4),
        "width": round(score.width, 4),
        "pinball": round(score.pinball, 4),
    }


def _show(file: ForecastFile, out: Path | None) -> None:
    rows = [
        {
            "forecast": name,
            "times off": f"{np.exp(score.error):.2f}",
            "in interval": words.percent(score.coverage),
            "interval, times": f"{np.exp(score.width):,.1f}",
            "loss": f"{score.pinball:.4f}",
        }
        for name, score in file.scores.items()
    ]
    print_table([Column(name=name, right=name != "forecast") for name in rows[0]], rows)
    groups = " > ".join(file.columns[at].name for at in file.chain) or "none: all rows are one group"
    ratios = f" Ratios are to {file.columns[file.base].name}." if file.model.has_ratios else ""
    click.echo(f"\nGroups, coarse to fine: {groups}.{ratios}")
    best = min(file.scores, key=lambda name: file.scores[name].pinball)
    if best != "learnt":
        click.echo(f"The least loss had '{best}': what was learnt is no better than that here.")
    if out is not None:
        click.echo(f"{out}: thalweg explain-model {out} says what it rests on")


def _hours(file: ForecastFile, asked: AskedDemand) -> list[dict[str, Any]]:
    told = np.exp(file.model.quantiles(np.array(file.usual)))
    told = np.where(told > LEAST_GPU_H, told, 0.0)  # what is less was not told apart
    first = asked.first_hour + asked.gpu_hours.shape[1]
    return [
        {
            "region": name,
            "hour": f"{datetime.fromtimestamp((first + ahead) * _HOUR_S, UTC):%Y-%m-%dT%H:%MZ}",
            **dict(zip(("least", "middle", "most"), told[place * AHEAD_H + ahead].round(3).tolist(), strict=True)),
        }
        for place, name in enumerate(asked.regions)
        for ahead in range(AHEAD_H)
    ]


def _show_sums(asked: AskedDemand, hours: Sequence[Mapping[str, Any]]) -> None:
    rows = []
    for name in asked.regions:
        own = [row for row in hours if row["region"] == name]
        largest = max(own, key=lambda row: (row["most"], row["hour"]))
        rows.append(
            {
                "region": name,
                "medians, sum": sum(row["middle"] for row in own),
                "largest hour": largest["hour"],
                **{end: largest[end] for end in ("least", "middle", "most")},
            }
        )
    columns = [
        Column(name="region"),
        Column(name="medians, sum", say=words.amount, right=True),
        Column(name="largest hour"),
    ]
    print_table([*columns, *_ENDS], rows)
