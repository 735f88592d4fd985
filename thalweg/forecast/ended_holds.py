"""How long tasks held their places: from the tables, or from a public job list."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from thalweg.learning.forecast.columns import (
    ColumnKind,
    ForecastColumn,
    ForecastInputError,
    Numbers,
    encoded,
    with_names,
)
from thalweg.learning.forecast.forecast_trial import ForecastHistory, Reference
from thalweg.query.sql.query import TableReader
from thalweg.replay.estimates import Estimates, expected_s
from thalweg.replay.traces import PhillyJob
from thalweg.scheduling.pack.need import Need
from thalweg.scheduling.world.hold import SIGMA
from thalweg.scheduling.world.tasks import Part, TaskSpec
from thalweg.streams.placement.task_specs import read_spec

HOLD_COLUMNS: Final = (
    ForecastColumn(name="expected_s", kind=ColumnKind.SIZE),
    ForecastColumn(name="tenant", kind=ColumnKind.NAME),
    ForecastColumn(name="gpus", kind=ColumnKind.SIZE, unit=0.125),
    ForecastColumn(name="workers", kind=ColumnKind.SIZE),
    ForecastColumn(name="gpu_models", kind=ColumnKind.NAME),
    ForecastColumn(name="priority", kind=ColumnKind.STEP, unit=100.0),
    ForecastColumn(name="data_gb", kind=ColumnKind.SIZE),
    ForecastColumn(name="spot_ok", kind=ColumnKind.STEP),
)
"""Of what makes specs equal, and no more: tasks of one class hold their places for the same time."""
HOLD_BASES: Final = (0,)
"""Ratios are of what the request says."""
LEAST_S: Final = 1.0
"""What took less counts as a second."""
_EIGHTY_PERCENT: Final = 1.2816 * SIGMA
_ENDED: Final = (
    "SELECT task_id, copy, epoch, started_at, ended_at FROM results WHERE state IN ('succeeded', 'failed')"
    " AND started_at IS NOT NULL AND ended_at >= started_at ORDER BY ended_at, task_id, copy, epoch"
)
"""Runs that ended by themselves: what was stopped would have gone on."""
_REQUESTS: Final = "SELECT task_id, request FROM tasks UNION ALL SELECT task_id, request FROM tasks_archive"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedHold:
    """A run that has ended; moments are seconds since 1970."""

    row: Mapping[str, Any]
    """See `hold_row`."""
    began_s: float
    ended_s: float


def hold_row(spec: TaskSpec) -> Mapping[str, Any]:
    """Say what is known of a task before it runs, by the columns' names."""
    return {
        "expected_s": spec.expected_s,
        "tenant": spec.tenant,
        "gpus": spec.gpus,
        "workers": spec.workers,
        "gpu_models": ", ".join(sorted(spec.gpu_models)) if spec.gpu_models else "any",
        "priority": spec.priority,
        "data_gb": sum(one.size_gb for one in spec.data),
        "spot_ok": int(spec.spot_ok),
    }


def holds_in_tables(reader: TableReader) -> list[EndedHold]:
    """Read the runs that have ended, in the order in which they did."""
    requests = {row["task_id"]: row["request"] for row in reader.dicts(_REQUESTS) if row["request"]}
    rows: dict[str, Mapping[str, Any]] = {}
    found = []
    for one in reader.dicts(_ENDED):
        request = requests.get(one["task_id"])
        if request is None:
            continue
        if request not in rows:
            rows[request] = hold_row(read_spec(request))
        began_s, ended_s = one["started_at"].timestamp(), one["ended_at"].timestamp()
        found.append(EndedHold(row=rows[request], began_s=began_s, ended_s=ended_s))
    return found


def holds_in_jobs(jobs: Sequence[PhillyJob], estimates: Estimates, seed: int) -> list[EndedHold]:
    """Take a job list's jobs as tasks that began when they were submitted, in that order.

    Args:
        jobs: of which the clusters are the tenants.
        estimates: what their requests are taken to say, since the list does not.
        seed: of what is drawn for that.
    """
    ordered = sorted(jobs, key=lambda job: (job.submitted_at, job.job_id))
    told = expected_s([job.duration_s for job in ordered], estimates, seed)
    found = []
    for job, told_s in zip(ordered, told, strict=True):
        parts = (Part(workers=max(job.gpus, 1), need=Need(gpus=min(job.gpus, 1))),)
        row = hold_row(TaskSpec(parts=parts, expected_s=told_s, tenant=job.cluster))
        began_s = job.submitted_at.timestamp()
        found.append(EndedHold(row=row, began_s=began_s, ended_s=began_s + job.duration_s))
    return found


def hold_history(holds: Sequence[EndedHold]) -> ForecastHistory:
    """Lay holds out to learn from.

    Raises:
        ForecastInputError: there are none.
    """
    if not holds:
        raise ForecastInputError("no run has ended by itself yet: let some tasks succeed first (thalweg demo)")
    rows = [hold.row for hold in holds]
    columns = with_names(HOLD_COLUMNS, rows)
    began = np.array([hold.began_s for hold in holds])
    ended = np.array([hold.ended_s for hold in holds])
    return ForecastHistory(
        columns=columns,
        bases=HOLD_BASES,
        x=encoded(columns, rows),
        y=np.log(np.maximum(ended - began, LEAST_S)),
        began=began,
        ended=ended,
    )


def hold_references() -> dict[str, Reference]:
    """Forecasts that learn less: the request's word, what is usual for a tenant, what is usual."""
    tenant = next(at for at, column in enumerate(HOLD_COLUMNS) if column.name == "tenant")
    return {
        "as requested": as_requested,
        "usual of the tenant": lambda past: past.learnt((tenant,)).quantiles,
        "usual of all": lambda past: past.learnt(()).quantiles,
    }


def as_requested(past: ForecastHistory) -> Callable[[Numbers], Numbers]:
    """Take the request's word, as `scheduling.world.hold` does, below a minute, too."""
    del past  # nothing is learnt

    def told(x: Numbers) -> Numbers:
        middle = np.log(np.maximum(x[:, HOLD_BASES[0]], LEAST_S))
        return np.stack([middle - _EIGHTY_PERCENT, middle, middle + _EIGHTY_PERCENT], axis=1)

    return told
