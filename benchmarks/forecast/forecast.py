"""`thalweg bench forecast`: durations and demand of the Philly trace, what is learnt beside what is not.

Durations with three kinds of requests: true, off by a factor of e¹ (log-normal), and off by up to 100 times either way.
Boosted trees are scikit-learn's (`thalweg[learning]`), three quantiles of the logarithm, with their interval set on the
later rows as ours is. All are learnt anew at each step, and judged by the same rows.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from thalweg.benchmarks.placement.real_graph import published_folder
from thalweg.forecast.asked_demand import demand_in_jobs, demand_references
from thalweg.forecast.ended_holds import HOLD_BASES, hold_history, hold_references, holds_in_jobs
from thalweg.learning.forecast.columns import ColumnKind, Numbers
from thalweg.learning.forecast.demand_rows import demand_history
from thalweg.learning.forecast.forecast_trial import STEPS, ForecastHistory, ForecastTrial, Reference, tried
from thalweg.learning.forecast.group_quantiles import LATER
from thalweg.learning.forecast.scores import COVERED, QUANTILES
from thalweg.replay.estimates import Estimates
from thalweg.replay.traces import read_philly_jobs
from thalweg.stack.machine import describe

_TREES: Final = 100
_LEAST_LEAF: Final = 100
_LEAVES: Final = 15


def measure(
    parts: str = "exact,noisy,hostile,demand",
    held_out: float = 0.3,
    steps: int = STEPS,
    seed: int = 42,
    boosted: bool = True,
) -> dict[str, Any]:
    """Measure both.

    Args:
        parts: kinds of requests, and demand.
        held_out: share of the rows that judge.
        steps: in which the moment goes through them.
        seed: of what requests say.
        boosted: whether boosted trees are learnt, too.
    """
    jobs = read_philly_jobs(published_folder() / "philly" / "philly_jobs_to_2017-11.csv.gz")
    wanted = parts.split(",")
    history = hold_history(holds_in_jobs(jobs, Estimates.EXACT, seed))
    hostile = hold_history(holds_in_jobs(jobs, Estimates.HOSTILE, seed))
    off = np.exp(np.random.default_rng([seed, 2]).standard_normal(len(history.y)))
    noisy = replace(history, x=history.x.copy())
    noisy.x[:, HOLD_BASES[0]] *= off
    references = hold_references() | ({"boosted trees": boosted_trees} if boosted else {})
    asked = demand_in_jobs(jobs)
    demand = demand_history(asked.regions, asked.gpu_hours, asked.first_hour)
    return {
        "benchmark": "forecast",
        "command": "thalweg bench forecast",
        "machine": describe(),
        "load_average": round(os.getloadavg()[0], 1),
        "held_out": held_out,
        "steps": steps,
        "seed": seed,
        "durations": {
            name: _trial(one, held_out, references, steps)
            for name, one in {"exact": history, "noisy": noisy, "hostile": hostile}.items()
            if name in wanted
        },
        "demand": _trial(demand, held_out, demand_references(), steps) if "demand" in wanted else {},
    }


def _trial(
    history: ForecastHistory, held_out: float, references: Mapping[str, Reference], steps: int
) -> dict[str, Any]:
    begun = time.process_time()
    history.learnt()
    learnt_s = time.process_time() - begun
    trial = tried(history, held_out, references, steps)
    return {
        "rows": len(history.y),
        "learnt_from": trial.learnt_from,
        "left_out": trial.left_out,
        "judged_by": len(trial.y),
        "chain": [history.columns[at].name for at in trial.models[0][0].chain],
        "groups": sum(map(len, trial.models[-1][0].cells)),
        "processor_seconds_to_learn": round(learnt_s, 2),
        "scores": _scores(trial),
    }


def _scores(trial: ForecastTrial) -> dict[str, Any]:
    return {
        name: {
            "error": round(one.error, 4),
            "coverage": round(one.coverage, 4),
            "width": round(one.width, 4),
            "pinball": round(one.pinball, 4),
        }
        for name, one in trial.scores.items()
    }


def boosted_trees(past: ForecastHistory) -> Callable[[Numbers], Numbers]:
    """Learn gradient-boosted trees for each quantile, names as categories; amounts by their logarithms."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    sizes = [at for at, column in enumerate(past.columns) if column.kind is ColumnKind.SIZE]
    names = [at for at, column in enumerate(past.columns) if column.kind is ColumnKind.NAME]

    def laid(x: Numbers) -> Numbers:
        rows = x.copy()
        rows[:, sizes] = np.log(np.maximum(rows[:, sizes], 1e-3))
        return rows

    def fitted(rows: slice) -> Callable[[Numbers], Numbers]:
        models = [
            HistGradientBoostingRegressor(
                loss="quantile",
                quantile=quantile,
                max_iter=_TREES,
                min_samples_leaf=_LEAST_LEAF,
                max_leaf_nodes=_LEAVES,
                categorical_features=names,
                early_stopping=False,
                random_state=0,
            ).fit(laid(x[rows]), y[rows])
            for quantile in QUANTILES
        ]
        return lambda asked: np.sort(np.stack([model.predict(laid(asked)) for model in models], axis=1), axis=1)

    order = np.argsort(past.ended, kind="stable")
    x, y = past.x[order], past.y[order]
    cut = len(y) - int(LATER * len(y))
    told = fitted(slice(0, cut))(x[cut:])
    outside = np.sort(np.maximum(told[:, 0] - y[cut:], y[cut:] - told[:, 2]))
    widen = float(outside[min(int(np.ceil(COVERED * (len(outside) + 1))) - 1, len(outside) - 1)])
    model = fitted(slice(0, len(y)))

    def quantiles(asked: Numbers) -> Numbers:
        least, middle, most = model(asked).T
        return np.stack([np.minimum(least - widen, middle), middle, np.maximum(most + widen, middle)], axis=1)

    return quantiles
