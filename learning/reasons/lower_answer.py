"""What would have to be different for a model's answer to be a given share of what it is: the smallest such change.

Each feature is looked at by itself. Values come from real samples, so that what is proposed has been seen; how large a
change is, is said by how many samples lie between the two values, which is the same for hours, GPUs and names.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerAnswer:
    """One feature changed, and what the model says then."""

    feature: int
    value: float
    passed_by: float
    """Share of the samples between the two values; of a feature whose values have no order, of those that have
    another value."""
    answer: float


def lower_answers(
    model: Callable[[Numbers], Numbers], sample: Numbers, others: Numbers, share: float, unordered: Sequence[int] = ()
) -> tuple[LowerAnswer, ...]:
    """Find, for each feature, the smallest change with which the answer is at most a share of what it is.

    Args:
        model: answers, above 0, [samples] of [samples, features].
        sample: [features] whose answer is to be lower.
        others: [samples, features] to take values from.
        share: of the answer.
        unordered: features whose values are codes of names.

    Returns:
        One for each feature that can do it, the smallest change first.
    """
    wanted = share * float(model(sample[None])[0])
    found = []
    for feature in range(len(sample)):
        values, counts = np.unique(others[:, feature], return_counts=True)
        values, counts = values[values != sample[feature]], counts[values != sample[feature]]
        if not len(values):
            continue
        rows = np.repeat(sample[None], len(values), axis=0)
        rows[:, feature] = values
        answers = model(rows)
        if feature in unordered:
            far = 1.0 - counts / len(others)
        else:
            column = np.sort(others[:, feature])
            between = np.searchsorted(column, values) - np.searchsorted(column, sample[feature])
            far = np.abs(between) / len(others)
        enough = np.flatnonzero(answers <= wanted)
        if len(enough):
            at = enough[np.lexsort((values[enough], far[enough]))[0]]
            found.append(
                LowerAnswer(
                    feature=feature, value=float(values[at]), passed_by=float(far[at]), answer=float(answers[at])
                )
            )
    return tuple(sorted(found, key=lambda one: (one.passed_by, one.feature)))
