"""How long tasks hold their places, learnt from those that have ended: what is known of a task, and the estimator."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np

from thalweg.learning.forecast.columns import ColumnKind, ForecastColumn, ForecastInputError, encoded
from thalweg.learning.forecast.group_quantiles import GroupQuantiles
from thalweg.scheduling.world.hold import HoldEstimate, HoldEstimator
from thalweg.scheduling.world.tasks import TaskSpec
from thalweg.scheduling.world.value import LEAST_HOLD_H, MOST_HOLD_H

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
"""What makes specs equal, and no more: tasks of one class hold their places for the same time."""
HOLD_BASES: Final = (0,)
"""Ratios are of what the request says."""
_MOST_SPECS: Final = 65_536
"""Estimates that are remembered: of more classes, those that were asked for last."""
_HOUR_S: Final = 3_600.0


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


def as_learnt(model: GroupQuantiles) -> HoldEstimator:
    """Make an estimator of a forecast of durations; equal specs give equal estimates, whatever was asked before.

    Raises:
        ForecastInputError: the forecast wants columns that tasks have not.
    """
    known = {column.name for column in HOLD_COLUMNS}
    if strange := sorted({column.name for column in model.columns} - known):
        raise ForecastInputError(f"the forecast wants {', '.join(strange)}; of a task there are {', '.join(sorted(known))}")

    @lru_cache(maxsize=_MOST_SPECS)
    def estimate(spec: TaskSpec) -> HoldEstimate:
        told = model.quantiles(encoded(model.columns, [hold_row(spec)]))[0]
        least, hours, most = np.clip(np.exp(np.minimum(told, 700.0)) / _HOUR_S, LEAST_HOLD_H, MOST_HOLD_H).tolist()
        return HoldEstimate(hours=hours, least_h=least, most_h=most)

    return estimate
