"""Why a forecast says what it says: importance, Shapley values, and what would halve it, as plain rows."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from thalweg.learning.forecast.columns import UNKNOWN, ColumnKind, ForecastColumn, ForecastInputError, Numbers
from thalweg.learning.forecast.forecast_file import ForecastFile
from thalweg.learning.reasons.lower_answer import lower_answers
from thalweg.learning.reasons.shapley_values import MOST_EXACT, of_all_coalitions

HALF: Final = 0.5


def explained_forecast(file: ForecastFile, sample: int, changed: Mapping[str, str], background: int) -> dict[str, Any]:
    """Explain a forecast by the rows that its file keeps; equal arguments give equal rows.

    Args:
        file: the forecast.
        sample: one of its usual rows, whose answer is explained.
        changed: columns of that row that are to have other values, by name.
        background: usual rows that stand for what is usual, evenly spaced.

    Returns:
        `importance` by column, in loss added; `answer`: its median and interval, in seconds or GPU-hours, what is usual
        (the geometric mean of the background's medians), and by how many times each column makes it larger or smaller
        (the product of all is the answer by what is usual); `halved`: for each column that can do it the smallest
        change that halves the median, or none.

    Raises:
        ForecastInputError: there is no such row or column, or no such value.
    """
    model, usual = file.model, np.array(file.usual)
    if sample >= len(usual):
        raise ForecastInputError(f"sample {sample}: there are {len(usual)}, from 0")
    if len(model.chain) + 1 > MOST_EXACT:
        raise ForecastInputError(f"it looks at {len(model.chain) + 1} columns; allowed are {MOST_EXACT}")
    row = _with(file.columns, usual[sample], changed)
    rows = usual[np.unique(np.linspace(0, len(usual) - 1, background).astype(int))]
    # Only these can matter; of all others the values are 0.
    looked_at = sorted({model.base, *model.chain})
    shapley = of_all_coalitions(model.middle, row, rows, looked_at)
    least, middle, most = np.exp(model.quantiles(row[None])[0]).tolist()
    order = np.lexsort((np.arange(len(row)), -np.abs(shapley.values))).tolist()
    halved = lower_answers(
        lambda told: np.asarray(np.exp(model.middle(told))),
        row,
        usual,
        HALF,
        [at for at, column in enumerate(file.columns) if column.kind is ColumnKind.NAME],
    )
    return {
        "what": file.what,
        "rows": file.rows,
        "since": file.since,
        "until": file.until,
        "tried_on": file.tried_on,
        "loss": file.scores["learnt"].pinball if "learnt" in file.scores else None,
        "chain": [file.columns[at].name for at in model.chain],
        "base": file.columns[model.base].name,
        "has_ratios": model.has_ratios,
        "importance": [
            {"feature": one.column, "added": one.added, "deviation": one.deviation} for one in file.importance
        ],
        "answer": {
            "sample": sample,
            "least": least,
            "middle": middle,
            "most": most,
            "usual": float(np.exp(shapley.base)),
            "values": [
                {
                    "feature": file.columns[at].name,
                    "value": file.columns[at].said(row[at]),
                    "shapley": float(shapley.values[at]),
                    "times": float(np.exp(shapley.values[at])),
                }
                for at in order
            ],
        },
        "halved": [
            {
                "feature": file.columns[one.feature].name,
                "value": file.columns[one.feature].said(row[one.feature]),
                "would_be": file.columns[one.feature].said(one.value),
                "answer": one.answer,
                "passed_by": one.passed_by,
            }
            for one in halved
        ],
    }


def _with(columns: tuple[ForecastColumn, ...], row: Numbers, changed: Mapping[str, str]) -> Numbers:
    found = row.copy()
    for name, text in changed.items():
        at = next((at for at, column in enumerate(columns) if column.name == name), None)
        if at is None:
            raise ForecastInputError(f"{name!r} is no column; there are {', '.join(column.name for column in columns)}")
        found[at] = _value(columns[at], text)
    return found


def _value(column: ForecastColumn, text: str) -> float:
    if column.kind is ColumnKind.NAME:
        return float(column.names.index(text)) if text in column.names else float(UNKNOWN)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise ForecastInputError(f"{column.name} is {text!r}; allowed are finite numbers")
    return value
