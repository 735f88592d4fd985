"""What will be asked for in each of the next hours: the rows that such a forecast is made from.

Every row is one region, one origin and one hour after it; nothing in it was known later than the origin.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from thalweg.learning.forecast.columns import ColumnKind, ForecastColumn, ForecastInputError, Numbers, check_finite
from thalweg.learning.forecast.forecast_trial import ForecastHistory, Reference
from thalweg.learning.forecast.scores import QUANTILES

DAY_H: Final = 24
WEEK_H: Final = 7 * DAY_H
AHEAD_H: Final = DAY_H
"""Hours that are forecast; the same hour of the day before is always known."""
FEWEST_H: Final = 2 * WEEK_H
"""A week goes before the first row, and another one is to learn from."""
STRIDE_H: Final = 29
"""Between origins: each hour is forecast once at most, and origins go round the clock, or how far ahead an hour is
would say which hour it is."""
LEAST_GPU_H: Final = 1.0
"""What is less counts as this: below a GPU-hour nothing is planned by it."""
SMOOTHING: Final = 0.2
"""Share of the newest day in what is smoothed over days."""

DEMAND_COLUMNS: Final = (
    ForecastColumn(name="region", kind=ColumnKind.NAME),
    ForecastColumn(name="hour", kind=ColumnKind.STEP),
    ForecastColumn(name="weekday", kind=ColumnKind.STEP),
    ForecastColumn(name="ahead_h", kind=ColumnKind.SIZE),
    ForecastColumn(name="hour_before", kind=ColumnKind.SIZE, unit=LEAST_GPU_H),
    ForecastColumn(name="day_before", kind=ColumnKind.SIZE, unit=LEAST_GPU_H),
    ForecastColumn(name="week_before", kind=ColumnKind.SIZE, unit=LEAST_GPU_H),
    ForecastColumn(name="day_mean", kind=ColumnKind.SIZE, unit=LEAST_GPU_H),
    ForecastColumn(name="week_mean", kind=ColumnKind.SIZE, unit=LEAST_GPU_H),
    ForecastColumn(name="smoothed", kind=ColumnKind.SIZE, unit=LEAST_GPU_H),
)
"""`hour` and `weekday` (from Monday, 0) are of the hour that is forecast, UTC; `ahead_h` is how far it is from the
origin. `hour_before` is the last hour before the origin, `day_before` and `week_before` are the same hour then, the
means are of the last day and week before the origin, and `smoothed` is the same hour of the days before, exponentially
smoothed."""
DEMAND_BASES: Final = tuple(at for at, column in enumerate(DEMAND_COLUMNS) if column.unit == LEAST_GPU_H and at >= 4)


def demand_history(regions: Sequence[str], asked: Numbers, first_hour: int) -> ForecastHistory:
    """Lay out what is known of the demand of some weeks: origins, each with the 24 hours after it.

    Args:
        regions: names, sorted.
        asked: [regions, hours] GPU-hours.
        first_hour: hours since 1970 of the first.

    Raises:
        ForecastInputError: that is too short, or no finite numbers.
    """
    check_finite(asked, "the hours")
    hours = asked.shape[1] if asked.ndim == 2 else 0
    if hours < FEWEST_H or not regions:
        raise ForecastInputError(
            f"hours: {hours}, regions: {len(regions)}; allowed are {FEWEST_H} hours (two weeks) and more"
        )
    # From the end, so that the newest hours are learnt from.
    origins = np.arange(hours - AHEAD_H, WEEK_H - 1, -STRIDE_H)[::-1]
    rows = [demand_rows(asked, first_hour, int(origin)) for origin in origins]
    truths = [asked[:, origin : origin + AHEAD_H].reshape(-1) for origin in origins]
    began = np.repeat(first_hour + origins.astype(np.float64), len(regions) * AHEAD_H)
    ahead = np.tile(np.arange(1.0, AHEAD_H + 1), len(regions) * len(origins))
    return ForecastHistory(
        columns=tuple(
            ForecastColumn(name=one.name, kind=one.kind, unit=one.unit, names=tuple(regions))
            if one.kind is ColumnKind.NAME
            else one
            for one in DEMAND_COLUMNS
        ),
        bases=DEMAND_BASES,
        x=np.concatenate(rows),
        y=np.log(np.maximum(np.concatenate(truths), LEAST_GPU_H)),
        began=began,
        ended=began + ahead,
    )


def demand_rows(asked: Numbers, first_hour: int, origin: int) -> Numbers:
    """Give the rows of one origin, [regions × AHEAD_H, columns], region by region.

    Args:
        asked: [regions, hours] GPU-hours; what is at the origin and after it is not looked at.
        first_hour: hours since 1970 of the first.
        origin: index of the first hour that is forecast, at least a week in.
    """
    past = asked[:, :origin]
    ahead = np.arange(AHEAD_H)
    moment = first_hour + origin + ahead
    many = len(asked)

    def each(values: Numbers) -> Numbers:
        """One value a region."""
        return np.repeat(values, AHEAD_H)

    def hourly(values: npt.NDArray[np.int64]) -> Numbers:
        """One value an hour."""
        return np.tile(values.astype(np.float64), many)

    return np.stack(
        [
            each(np.arange(many, dtype=np.float64)),
            hourly(moment % DAY_H),
            hourly((moment // DAY_H + 3) % 7),  # 1 January 1970 was a Thursday
            hourly(ahead + 1),
            each(past[:, -1]),
            past[:, -DAY_H:].reshape(-1),
            past[:, -WEEK_H : -WEEK_H + AHEAD_H].reshape(-1),
            each(past[:, -DAY_H:].mean(axis=1)),
            each(past[:, -WEEK_H:].mean(axis=1)),
            _smoothed(past).reshape(-1),
        ],
        axis=1,
    )


def _smoothed(past: Numbers) -> Numbers:
    """[regions, 24] the same hour of all days before, the newest counting most; in logarithms, as demand is ragged."""
    days = past.shape[1] // DAY_H
    by_day = np.log(np.maximum(past[:, past.shape[1] - days * DAY_H :], LEAST_GPU_H)).reshape(len(past), days, DAY_H)
    weight = SMOOTHING * (1.0 - SMOOTHING) ** np.arange(days)[::-1]
    return np.asarray(np.exp(np.einsum("rdh,d->rh", by_day, weight / weight.sum())))


def naive(column: str) -> Reference:
    """Forecast what a column says, with the interval by which it was wrong before."""
    at = next(at for at, one in enumerate(DEMAND_COLUMNS) if one.name == column)

    def said(x: Numbers) -> Numbers:
        return np.asarray(np.log(np.maximum(x[:, at], LEAST_GPU_H)))

    def learn(past: ForecastHistory) -> Callable[[Numbers], Numbers]:
        off = past.y - said(past.x)
        least, most = min(float(np.quantile(off, QUANTILES[0])), 0.0), max(float(np.quantile(off, QUANTILES[-1])), 0.0)
        return lambda x: np.stack([said(x) + least, said(x), said(x) + most], axis=1)

    return learn
