"""Sums whose bits do not tell in which order, or in which parts, they were made."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.learning.vectors.exact_sum import LARGEST_WEIGHT, ExactSum
from thalweg.learning.vectors.parameters import Vector

NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**120), max_value=2.0**120)
TERMS = st.lists(
    st.tuples(st.lists(NUMBERS, min_size=3, max_size=3), st.integers(1, LARGEST_WEIGHT)), min_size=1, max_size=12
)


def vector(numbers: list[float]) -> Vector:
    return np.array(numbers, np.float32)


def summed(terms: list[tuple[list[float], int]]) -> ExactSum:
    total = ExactSum(3)
    for numbers, weight in terms:
        total.add(vector(numbers), weight)
    return total


@given(TERMS, st.randoms(use_true_random=False), st.integers(0, 12))
def test_neither_the_order_nor_the_parts_can_be_seen(terms, random, cut) -> None:  # type: ignore[no-untyped-def]
    expected = summed(terms).mean().tobytes()
    shuffled = list(terms)
    random.shuffle(shuffled)
    assert summed(shuffled).mean().tobytes() == expected
    parts = summed(shuffled[:cut])
    parts.merge(summed(shuffled[cut:]))
    assert parts.mean().tobytes() == expected


@given(TERMS)
def test_the_mean_is_the_true_one_rounded(terms) -> None:  # type: ignore[no-untyped-def]
    found = summed(terms).mean()
    whole = sum(weight for _, weight in terms)
    for place in range(3):
        true = sum(Fraction(float(np.float32(numbers[place]))) * weight for numbers, weight in terms) / whole
        allowed = max(abs(true) * Fraction(1, 2**23), Fraction(1, 2**149))  # a unit in the last place
        assert abs(Fraction(float(found[place])) - true) <= allowed


def test_what_cancels_leaves_what_is_small() -> None:
    found = summed([([1e30, 1, 0], 3), ([-1e30, 0, 0], 3), ([1e-40, 0, 0], 1)]).mean(denominator=1)
    assert found.tolist() == [np.float32(1e-40), 3.0, 0.0]


@pytest.mark.parametrize(
    ("numbers", "weight"), [([np.nan, 0, 0], 1), ([np.inf, 0, 0], 1), ([0, 0], 1), ([0, 0, 0], LARGEST_WEIGHT + 1)]
)
def test_what_cannot_be_summed_exactly_is_refused(numbers: list[float], weight: int) -> None:
    with pytest.raises(ValueError, match="allowed are"):
        ExactSum(3).add(vector(numbers), weight)
    with pytest.raises(ValueError, match="mean of nothing"):
        ExactSum(3).mean()
