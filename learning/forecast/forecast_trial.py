"""A forecast tried on what came later: learnt from what had ended by a moment, judged by what began after it.

Never by a random share: what is drawn at random knows its neighbours on both sides, and the future is on one. The
moment goes on in steps (rolling origin), as a forecast that is made anew now and then does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from thalweg.learning.forecast.columns import ForecastColumn, ForecastInputError, Numbers
from thalweg.learning.forecast.group_quantiles import FEWEST, GroupQuantiles, learnt
from thalweg.learning.forecast.scores import ForecastScore, scored

Rows = npt.NDArray[np.int64]

FEWEST_JUDGES: Final = 10
"""Of fewer later rows nothing follows."""
STEPS: Final = 10
"""Of the moment through what judges: of a month, three days each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastHistory:
    """What is known.

    Attributes:
        columns: of the rows.
        bases: indices of the columns that ratios may be of.
        x: [N, columns].
        y: [N] truths.
        began: [N] from when on each row was there, in any unit.
        ended: [N] when its truth was known, in the same.
    """

    columns: tuple[ForecastColumn, ...]
    bases: tuple[int, ...]
    x: Numbers
    y: Numbers
    began: Numbers
    ended: Numbers

    def learnt(self, chain: tuple[int, ...] | None = None) -> GroupQuantiles:
        """Learn from all of it.

        Args:
            chain: columns that make groups; None finds them.

        Raises:
            ForecastInputError: there is too little.
        """
        return learnt(self.x, self.y, self.ended, self.columns, self.bases, chain)

    def of(self, rows: npt.NDArray[np.bool_]) -> "ForecastHistory":
        """Keep some rows."""
        return replace(self, x=self.x[rows], y=self.y[rows], began=self.began[rows], ended=self.ended[rows])


Reference = Callable[[ForecastHistory], Callable[[Numbers], Numbers]]
"""Learns from what had ended; what it gives forecasts [N, 3] quantiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastTrial:
    """How it went.

    Attributes:
        learnt_from: rows that had ended by the first moment.
        left_out: rows that had begun by then and not ended: nobody knew their truths.
        x, y: the rows that began later, in the order in which they did.
        models: one for each step, with how many of these rows it forecast.
        scores: of what was learnt, and of others beside it, by their names.
    """

    learnt_from: int
    left_out: int
    x: Numbers
    y: Numbers
    models: tuple[tuple[GroupQuantiles, int], ...]
    scores: Mapping[str, ForecastScore]

    def quantiles(self, x: Numbers) -> Numbers:
        """Forecast as many rows as there were, each by the model of its step."""
        ends = np.cumsum([many for _, many in self.models])
        parts = np.split(x, ends[:-1])
        return np.concatenate([model.quantiles(part) for (model, _), part in zip(self.models, parts, strict=True)])


def tried(
    history: ForecastHistory, held_out: float, references: Mapping[str, Reference], steps: int = STEPS
) -> ForecastTrial:
    """Try a forecast.

    Which columns it looks at is found once, by what had ended before all that judges; its groups and its interval are
    learnt anew at each step.

    Args:
        history: what is known.
        held_out: share of the rows, the latest to begin, that judge.
        references: that are tried beside it, by name.
        steps: in which the moment goes through that part.

    Raises:
        ForecastInputError: too few rows had ended by the first moment, or began later.
    """
    cutoff = float(np.quantile(history.began, 1.0 - held_out)) if len(history.began) else 0.0
    known, later = history.ended <= cutoff, history.began > cutoff
    if known.sum() < FEWEST or later.sum() < FEWEST_JUDGES:
        raise ForecastInputError(
            f"{len(history.y)} have ended, {int(known.sum())} of them before the last {held_out:.0%} began, "
            f"{int(later.sum())} of which have ended; allowed are {FEWEST} and {FEWEST_JUDGES} and more. Let more end, "
            "or hold back another share"
        )
    first = history.of(known).learnt()
    structure = replace(history, bases=(first.base,))
    judges = np.flatnonzero(later)[np.argsort(history.began[later], kind="stable")]
    models: list[tuple[GroupQuantiles, int]] = []
    told: dict[str, list[Numbers]] = {name: [] for name in ("learnt", *references)}
    moment = cutoff
    for rows in _together(judges, history.began, steps):
        past = structure.of(history.ended <= moment)
        model = past.learnt(first.chain)
        models.append((model, len(rows)))
        told["learnt"].append(model.quantiles(history.x[rows]))
        for name, refer in references.items():
            told[name].append(refer(past)(history.x[rows]))
        moment = float(history.began[rows[-1]])
    y = history.y[judges]
    return ForecastTrial(
        learnt_from=int(known.sum()),
        left_out=int((~known & ~later).sum()),
        x=history.x[judges],
        y=y,
        models=tuple(models),
        scores={name: scored(y, np.concatenate(parts)) for name, parts in told.items()},
    )


def _together(judges: Rows, began: Numbers, steps: int) -> list[Rows]:
    """Cut rows into steps; what begins at one moment is in one step."""
    ends = np.searchsorted(
        began[judges], began[judges][np.linspace(0, len(judges) - 1, steps + 1).astype(int)], "right"
    )
    return [part for part in np.split(judges, np.unique(ends[1:-1])) if len(part)]
