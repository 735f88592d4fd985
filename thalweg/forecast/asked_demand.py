"""GPU-hours that were asked for by region and hour: from the tables, or from a public job list."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from thalweg.learning.forecast.columns import ForecastInputError, Numbers
from thalweg.learning.forecast.demand_rows import FEWEST_H, naive
from thalweg.learning.forecast.forecast_trial import Reference
from thalweg.query.sql.query import TableReader
from thalweg.replay.traces import PhillyJob
from thalweg.scheduling.counted import counted
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.world.tasks import stands_for_array
from thalweg.streams.placement.task_specs import read_spec

HOUR_S: Final = 3_600.0
MOST_CELLS: Final = 500_000
"""Regions by hours that are learnt from: 50 regions in a year are 438,000, and take minutes."""
_NAMED: Final = 10
"""Regions that an error names."""
NOWHERE: Final = "(waiting)"
"""Region of what was never placed."""
_TASKS: Final = (
    "SELECT task_id, submitted_at, request FROM tasks WHERE request IS NOT NULL UNION ALL"
    " SELECT task_id, submitted_at, request FROM tasks_archive WHERE request IS NOT NULL"
)
_FIRST_PLACES: Final = (
    "SELECT task_id, first_value(region ORDER BY driver_epoch, batch_id, row) AS region FROM decisions"
    " WHERE transition = 'assigned' GROUP BY task_id"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedDemand:
    """What was asked for.

    Attributes:
        regions: sorted.
        gpu_hours: [regions, hours], as requests said when they came.
        first_hour: hours since 1970 of the first.
    """

    regions: tuple[str, ...]
    gpu_hours: Numbers
    first_hour: int


def demand_in_tables(reader: TableReader, until: datetime, region: str | None = None) -> AskedDemand:
    """Sum what tasks asked for by the region where they were placed first, up to the last whole hour.

    An array is its elements; their GPU-hours are those that the request says, all replicas together.

    Args:
        reader: of the tables.
        until: whole hours before it count.
        region: the only one that is wanted; None for all.

    Raises:
        ForecastInputError: nothing was asked for, or there is more than can be learnt from.
    """
    places = {row["task_id"]: row["region"] for row in reader.dicts(_FIRST_PLACES)}
    tasks = {row["task_id"]: row for row in reader.dicts(_TASKS)}
    found = []
    for task_id, row in tasks.items():
        spec = read_spec(row["request"])
        if stands_for_array(TaskId(task_id), spec):
            continue
        asked = spec.gpus * spec.replicas * spec.expected_s / HOUR_S
        found.append((places.get(task_id) or NOWHERE, row["submitted_at"].timestamp(), asked))
    return _by_hour(found, math.floor(until.timestamp() / HOUR_S), region)


def demand_in_jobs(jobs: Sequence[PhillyJob], region: str | None = None) -> AskedDemand:
    """Sum what a job list's jobs took by cluster and hour of submission, as if requests had said it.

    Args:
        jobs: of the list.
        region: the only cluster that is wanted; None for all.

    Raises:
        ForecastInputError: it holds no job, or more than can be learnt from.
    """
    found = [(job.cluster, job.submitted_at.timestamp(), job.gpus * job.duration_s / HOUR_S) for job in jobs]
    return _by_hour(found, math.floor(max((at for _, at, _ in found), default=0.0) / HOUR_S), region)


def _by_hour(asked: Sequence[tuple[str, float, float]], until_hour: int, only: str | None) -> AskedDemand:
    """Lay out by region and whole hour before one."""
    kept = [(region, math.floor(at_s / HOUR_S), gpu_h) for region, at_s, gpu_h in asked]
    kept = [one for one in kept if one[1] < until_hour]
    if not kept:
        raise ForecastInputError(
            f"nothing was asked for before the last whole hour; allowed are {FEWEST_H} hours (two weeks) and more"
        )
    regions = tuple(sorted({region for region, _, _ in kept}))
    if only is not None:
        if only not in regions:
            raise ForecastInputError(f"--region {only!r}: nothing was asked for there; there are {_some(regions)}")
        regions, kept = (only,), [one for one in kept if one[0] == only]
    first = min(hour for _, hour, _ in kept)
    place = {region: at for at, region in enumerate(regions)}
    hours = until_hour - first
    if len(regions) * hours > MOST_CELLS:
        smaller = "a shorter history" if len(regions) == 1 else "one region alone (--region NAME), or a shorter history"
        raise ForecastInputError(
            f"{counted(len(regions), 'region')} by {counted(hours, 'hour')}: {len(regions) * hours:,} in all; "
            f"allowed are {MOST_CELLS:,}. Learn from {smaller}"
        )
    gpu_hours = np.zeros((len(regions), hours))
    for region, hour, gpu_h in kept:
        gpu_hours[place[region], hour - first] += gpu_h
    return AskedDemand(regions=regions, gpu_hours=gpu_hours, first_hour=first)


def _some(regions: Sequence[str]) -> str:
    named = ", ".join(regions[:_NAMED])
    return named if len(regions) <= _NAMED else f"{named} and {len(regions) - _NAMED:,} more"


def demand_references() -> dict[str, Reference]:
    """Forecasts that learn less: what it was before, and exponential smoothing."""
    return {
        "as the hour before": naive("hour_before"),
        "as the day before": naive("day_before"),
        "as the week before": naive("week_before"),
        "smoothed over days": naive("smoothed"),
        "usual of the region": lambda past: past.learnt((0,)).quantiles,
    }
