"""Filter, window, figures: exact figures are those of the rows themselves, sketched ones within what is declared."""

import math
from collections import defaultdict
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.edge.declaration import QUANTILES, Declaration, DeclarationError, read_declaration
from thalweg.edge.preparation import Preparation
from thalweg.edge.sketch import LEAST, QuantileSketch

VALUES = st.floats(-1e12, 1e12, allow_nan=False)
ROWS = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from("ab"), VALUES, st.sampled_from(["ready", "gone"])), max_size=60
)
EXACT = {
    "count": len,
    "sum": math.fsum,
    "mean": lambda loads: float(sum(map(Fraction, loads)) / len(loads)),
    "min": min,
    "max": max,
    "last": lambda loads: loads[-1],
}


def declared(figure: str, **fields: Any) -> Declaration:
    return read_declaration({"revision": 1, "window_s": 2, "figures": {"load": figure}, **fields})


def carried_out(declaration: Declaration, rows: list[Any]) -> list[dict[str, Any]]:
    """Rows of (second, thing, load, state), in order; what leaves of them in the end."""
    preparation = Preparation(declaration)
    left: list[dict[str, Any]] = []
    for second, thing, load, state in rows:
        left += preparation.take([(thing, {"thing": thing, "load": load, "state": state})], second * 1_000)
    return [*left, *preparation.rest()]


def reckoned(rows: list[Any], figure: str) -> list[tuple[str, float]]:
    """The same by another reckoning: what each thing's rows say between two that leave."""
    left: list[tuple[str, float]] = []
    waiting: dict[str, list[float]] = defaultdict(list)
    windows: dict[str, set[int]] = defaultdict(set)  # in which a thing was seen
    state: dict[str, str] = {}
    number = None

    def leave(thing: str) -> None:
        if waiting[thing]:
            left.append((thing, EXACT[figure](waiting.pop(thing))))

    for second, thing, load, now in rows:
        if second // 2 != number:
            before, number = number, second // 2
            for other in list(waiting):
                leave(other)
            # Who was not seen in the window before is new when it comes again.
            state = {other: last for other, last in state.items() if before in windows[other]}
        new = state.get(thing) != now
        if new:
            leave(thing)
        waiting[thing].append(load)
        windows[thing].add(number)
        state[thing] = now
        if new:
            leave(thing)
    for other in list(waiting):
        leave(other)
    return left


@given(ROWS, st.sampled_from(sorted(EXACT)))
def test_exact_figures_are_those_of_the_rows_themselves(rows: list[Any], figure: str) -> None:
    in_order = sorted(rows, key=lambda row: row[0])
    found = carried_out(declared(figure, at_once=["state"]), in_order)
    assert sorted((row["thing"], row["load"]) for row in found) == sorted(reckoned(in_order, figure))


@given(st.lists(VALUES, min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_the_order_of_a_windows_rows_is_not_seen_in_a_sum(loads: list[float], luck: Any) -> None:
    def total(given: list[float]) -> float:
        (_, row) = carried_out(declared("sum"), [(0, "a", 0.0, "ready"), *((1, "a", load, "ready") for load in given)])
        return float(row["load"])

    assert total(loads) == total(luck.sample(loads, len(loads)))


@given(
    st.lists(VALUES, min_size=1, max_size=200), st.sampled_from(sorted(QUANTILES)), st.sampled_from([0.001, 0.01, 0.1])
)
def test_a_quantile_is_within_the_declared_error_of_the_true_one(loads: list[float], figure: str, error: float) -> None:
    sketch = QuantileSketch(error)
    sketch.add(loads)
    share = QUANTILES[figure]
    true = sorted(loads)[max(1, math.ceil(share * len(loads))) - 1]
    assert abs(sketch.quantile(share) - true) <= error * abs(true) * (1 + 1e-9) + LEAST
    assert min(loads) <= sketch.quantile(share) <= max(loads)


@given(st.lists(VALUES, max_size=50), st.lists(VALUES, min_size=1, max_size=50))
def test_sketches_of_parts_add_up_to_that_of_the_whole(some: list[float], others: list[float]) -> None:
    whole, part, other = (QuantileSketch(0.01) for _ in range(3))
    whole.add(some + others)
    part.add(others)
    other.add(some)
    part.merge(other)
    shares = list(QUANTILES.values())
    assert [part.quantile(share) for share in shares] == [whole.quantile(share) for share in shares]
    assert part.buckets == whole.buckets and part.count == len(some) + len(others)


def test_a_sketch_is_small_whatever_it_has_counted() -> None:
    sketch = QuantileSketch(0.01)
    sketch.add(number / 1_000 for number in range(1, 100_001))
    assert sketch.count == 100_000 and sketch.buckets < 600
    with pytest.raises(ValueError, match=r"allowed is 0\.01"):
        sketch.merge(QuantileSketch(0.02))


def test_what_is_not_kept_goes_nowhere_and_what_has_no_such_field_is_kept() -> None:
    declaration = declared("max", keep=[{"field": "kind", "one_of": ["node"]}, {"field": "load", "min": 0.2, "max": 1}])
    rows: list[Any] = [
        ("a", {"kind": "node", "load": 0.5}),
        ("b", {"kind": "node", "load": 0.1}),
        ("c", {"kind": "link", "load": 0.5}),
        ("d", {"kind": "node"}),
        ("e", {"kind": "node", "load": "much"}),
    ]
    assert list(Preparation(declaration).take(rows, 0)) == [{"kind": "node", "load": 0.5}, {"kind": "node"}]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"window_s": 0}, "window_s"),
        ({"window_s": 7_200}, "window_s"),
        ({"revision": 0}, "revision"),
        ({"figures": {"load": "p42"}}, "p42"),
        ({"error": 0.5}, "error"),
        ({"windows": 3}, "windows"),
        ({"keep": [{"field": "kind"}]}, "one_of, or min and max"),
        ({"keep": [{"field": "load", "min": math.inf}]}, "finite bounds"),
        ({"figures": {"load": "mean"}, "at_once": ["load"]}, "load is a figure"),
    ],
)
def test_a_declaration_that_cannot_be_carried_out_says_why(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        read_declaration({"revision": 1, "window_s": 60, **fields})
