"""A forecast as a file: tried on what came later, then learnt from all there is."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal

import numpy as np

from thalweg.learning.forecast.columns import Numbers
from thalweg.learning.forecast.forecast_file import FiledImportance, ForecastFile, filed_groups
from thalweg.learning.forecast.forecast_trial import ForecastHistory, ForecastTrial, Reference, tried
from thalweg.learning.forecast.scores import pinball
from thalweg.learning.reasons.feature_importance import permutation_importance

USUAL: Final = 200
"""Rows that a file keeps to explain by."""
_REPEATS: Final = 5


def forecast_file(
    what: Literal["durations", "demand"],
    history: ForecastHistory,
    held_out: float,
    references: Mapping[str, Reference],
    *,
    unit_s: float,
    seed: int = 0,
    usual: Numbers | None = None,
) -> tuple[ForecastFile, ForecastTrial]:
    """Try a forecast and learn it; equal arguments give an equal file.

    Args:
        what: is forecast.
        history: what is known.
        held_out: share of the rows, the latest to begin, that judge.
        references: that are tried beside it.
        unit_s: of the history's moments, which count from 1970.
        seed: of the shuffles that say what it rests on.
        usual: rows to explain by; None takes the newest.

    Raises:
        ForecastInputError: there is too little to learn from, or to judge by.
    """
    trial = tried(history, held_out, references)
    model = history.learnt()
    newest = np.argsort(history.ended, kind="stable")[-USUAL:]
    kept = history.x[newest] if usual is None else usual

    def moment(at: float) -> str:
        return f"{datetime.fromtimestamp(at * unit_s, UTC):%Y-%m-%dT%H:%M:%SZ}"

    return (
        ForecastFile(
            what=what,
            rows=len(history.y),
            since=moment(float(history.began.min())),
            until=moment(float(history.ended.max())),
            tried_on=len(trial.y),
            scores=dict(trial.scores),
            importance=_importance(trial, seed),
            columns=model.columns,
            base=model.base,
            chain=model.chain,
            widen=model.widen,
            groups=filed_groups(model),
            usual=tuple(map(tuple, kept.tolist())),
        ),
        trial,
    )


def _importance(trial: ForecastTrial, seed: int) -> tuple[FiledImportance, ...]:
    found = permutation_importance(
        lambda rows: pinball(trial.y, trial.quantiles(rows)), trial.x, repeats=_REPEATS, seed=seed
    )
    columns = trial.models[0][0].columns
    return tuple(
        FiledImportance(column=columns[one.feature].name, added=one.added, deviation=one.deviation) for one in found
    )
