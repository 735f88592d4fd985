"""Rows of files by the declaration of samples: exact figures equal those of the groups, sketched ones nearly do."""

import math
from collections import defaultdict
from datetime import date
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.agent.prepared_samples import checked_for_samples
from thalweg.edge.declaration import QUANTILES, Declaration, DeclarationError, read_declaration
from thalweg.edge.prepared_rows import MOST, RowError, checked_for_rows, named_figures, prepared
from thalweg.edge.sketch import LEAST

FIELDS = ("device", "at", "load", "label")
VALUES = st.floats(-1e12, 1e12, allow_nan=False)
ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 40), VALUES, st.sampled_from(["walks", "stands"])), max_size=60
).map(lambda rows: sorted(rows, key=lambda row: row[1]))
EXACT = {
    "count": len,
    "sum": lambda loads: float(sum(map(Fraction, loads))),
    "mean": lambda loads: float(sum(map(Fraction, loads)) / len(loads)),
    "min": min,
    "max": max,
    "last": lambda loads: loads[-1],
}


def declared(**fields: Any) -> Declaration:
    whole = {"revision": 1, "window_s": 10, "thing": ["device"], "time": {"field": "at", "unit": "s"}, **fields}
    return checked_for_rows(read_declaration(whole), FIELDS)


def carried_out(declaration: Declaration, rows: list[Any]) -> list[dict[str, Any]]:
    numbered = enumerate((dict(zip(FIELDS, row, strict=True)) for row in rows), start=1)
    return list(prepared(declaration, numbered))


def groups(rows: list[Any], by_label: bool = False) -> list[tuple[str, int, list[float]]]:
    """Loads by device and window, of runs of one label where that is asked for: another reckoning."""
    found: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    run: dict[tuple[str, int], tuple[int, str]] = {}
    for device, at, load, label in rows:
        number, last = run.get((device, at // 10), (0, label))
        run[device, at // 10] = (number + (by_label and label != last), label)
        found[device, at // 10, run[device, at // 10][0]].append(load)
    return [(device, window, loads) for (device, window, _), loads in found.items()]


@given(ROWS, st.sampled_from(sorted(EXACT)), st.booleans())
def test_exact_figures_are_those_of_each_thing_window_and_label(rows: list[Any], figure: str, by_label: bool) -> None:
    declaration = declared(figures={"load": figure}, at_once=["label"] if by_label else [])
    left = carried_out(declaration, rows)
    wanted = [(device, window, EXACT[figure](loads)) for device, window, loads in groups(rows, by_label)]
    assert sorted((row["device"], row["at"] // 10, row["load"]) for row in left) == sorted(wanted)


@given(ROWS, st.sampled_from(sorted(QUANTILES)), st.sampled_from([0.001, 0.01, 0.1]))
def test_quantiles_are_within_what_is_declared_and_said(rows: list[Any], figure: str, error: float) -> None:
    declaration = declared(figures={"load": figure}, error=error)
    left = {(row["device"], row["at"] // 10): row["load"] for row in carried_out(declaration, rows)}
    assert len(left) == len(groups(rows))
    for device, window, loads in groups(rows):
        true = sorted(loads)[max(1, math.ceil(QUANTILES[figure] * len(loads))) - 1]
        assert abs(left[device, window] - true) <= error * abs(true) * (1 + 1e-9) + LEAST
    assert named_figures(declaration) == {"load": f"{figure}, within {error:g} of the true one"}


@given(ROWS, VALUES)
def test_without_time_rows_leave_as_they_are_or_do_not(rows: list[Any], least: float) -> None:
    declaration = declared(time=None, thing=[], keep=[{"field": "load", "min": least}])
    assert [tuple(row.values()) for row in carried_out(declaration, rows)] == [row for row in rows if row[2] >= least]


@given(ROWS)
def test_what_is_not_kept_is_in_no_figure(rows: list[Any]) -> None:
    left = carried_out(declared(figures={"load": "sum"}, keep=[{"field": "label", "one_of": ["walks"]}]), rows)
    only = carried_out(declared(figures={"load": "sum"}), [row for row in rows if row[3] == "walks"])
    assert left == only


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"figures": {"speed": "mean"}}, "field 'speed': the file has device, at, load, label"),
        ({"thing": ["host"]}, "field 'host'"),
        ({"time": {"field": "when"}}, "field 'when'"),
        ({"time": {"field": "at", "unit": "h"}}, "Invalid enum value 'h'"),
        ({"time": None}, "figures, at_once and thing are of windows"),
        ({"figures": {"at": "max"}}, "at is a figure, and thing or time"),
    ],
)
def test_what_does_not_fit_the_file_is_refused_in_words(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        declared(**fields)


def test_a_row_that_cannot_be_prepared_is_named() -> None:
    declaration = declared(figures={"load": "mean"})
    with pytest.raises(RowError, match="row 2: load is nan; allowed are finite numbers"):
        carried_out(declaration, [("a", 1, 1.0, "x"), ("a", 2, math.nan, "x")])
    with pytest.raises(RowError, match="row 1: at is None; allowed is a time"):
        carried_out(declaration, [("a", None, 1.0, "x")])
    kept = declared(figures={"load": "mean"}, keep=[{"field": "load", "min": 0}])
    assert carried_out(kept, [("a", None, math.nan, "x")]) == []


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, 1e308])
def test_numbers_that_no_figure_can_be_made_of_are_named_in_figures_and_in_times(number: float) -> None:
    for figure in ("mean", "p95", "sum"):
        with pytest.raises(RowError, match=r"row 2: load is .*; allowed are finite numbers up to 1e\+300"):
            carried_out(declared(figures={"load": figure}), [("a", 1, 1.0, "x"), ("a", 2, number, "x")])
    with pytest.raises(RowError, match=r"row 2: at is .*; allowed are numbers up to 253402300799 \(the year 9999"):
        carried_out(declared(figures={"load": "mean"}), [("a", 1, 1.0, "x"), ("a", number, 1.0, "x")])


@pytest.mark.parametrize("figure", ["mean", "p95", "sum"])
def test_the_largest_numbers_that_are_allowed_have_every_figure(figure: str) -> None:
    (row,) = carried_out(declared(figures={"load": figure}), [("a", 1, MOST, "x"), ("a", 2, MOST, "x")])
    assert row["load"] == pytest.approx(MOST * (2 if figure == "sum" else 1), rel=0.01)


def test_times_in_text_are_read_and_zones_are_in_every_row_or_in_none() -> None:
    declaration = declared(figures={"load": "count"}, window_s=3600)
    zoned = [("a", "2024-01-01T01:00:00+01:00", 1.0, "x"), ("a", "2024-01-01T00:30:00Z", 1.0, "x")]
    assert [row["load"] for row in carried_out(declaration, zoned)] == [2]
    bare = [
        ("a", "2024-01-01T00:00:00", 1.0, "x"),
        ("a", "2024-01-01 00:59:59.5", 1.0, "x"),
        ("a", date(2024, 1, 2), 1.0, "x"),
    ]
    assert [row["load"] for row in carried_out(declaration, bare)] == [2, 1]
    for mixed, number in (([*zoned, bare[1]], 3), ([bare[0], zoned[1]], 1)):
        with pytest.raises(RowError, match=rf"row {number}: at is '2024-01-01.*', without a zone, and in row [12] "):
            carried_out(declaration, mixed)
    with pytest.raises(RowError, match="row 1: at is 'noon'; allowed is a time"):
        carried_out(declaration, [("a", "noon", 1.0, "x")])


def test_a_field_that_there_is_not_is_told_with_those_there_are() -> None:
    for fields, words in (
        ({"kind": 1}, "`kind`; allowed are revision, keep, window_s"),
        ({"keep": [{"field": "load", "least": 1}]}, "allowed are field, one_of, min, max"),
        ({"time": {"field": "at", "zone": "UTC"}}, "allowed are field, unit"),
    ):
        with pytest.raises(DeclarationError, match=words):
            declared(**fields)


def test_samples_are_declared_without_what_is_of_files() -> None:
    with pytest.raises(DeclarationError, match="thing and time are of files"):
        checked_for_samples(read_declaration({"revision": 1, "window_s": 10, "thing": ["node_id"]}))
