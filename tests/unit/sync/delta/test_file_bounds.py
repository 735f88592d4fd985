"""Bounds of files together are those of all their rows, and none where a file says nothing: readers skip by them."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.sync.delta.file_bounds import FileBounds, bounds_of, merged

COLUMNS = ("a", "b")
ROWS = st.lists(st.tuples(st.integers(-9, 9) | st.none(), st.text("xyz", max_size=2) | st.none()), max_size=4)


def bounds(rows: list[tuple[Any, Any]]) -> FileBounds:
    a, b = zip(*rows, strict=True) if rows else ((), ())
    return bounds_of(pa.table({"a": pa.array(a, pa.int64()), "b": pa.array(b, pa.string())}), COLUMNS)


@given(st.lists(ROWS, max_size=4))
def test_bounds_together_hold_every_row_of_every_file(files: list[list[tuple[Any, Any]]]) -> None:
    whole = merged([bounds(rows) for rows in files])
    rows = [row for file in files for row in file]
    assert whole.rows == len(rows)
    for place, name in enumerate(COLUMNS):
        values = [row[place] for row in rows if row[place] is not None]
        if name in whole.lowest:
            assert (whole.lowest[name], whole.highest[name]) == (min(values), max(values))
            assert whole.nulls[name] == len(rows) - len(values)
    said = [bool(bounds(file).lowest) for file in files if file]
    assert bool(whole.lowest) == (bool(said) and all(said)), "none if one says nothing, and else all"


@pytest.mark.parametrize("order", [1, -1])
def test_a_file_without_bounds_leaves_those_it_is_merged_with_without_any(order: int) -> None:
    known, unknown, empty = bounds([(1, "x"), (2, "y")]), FileBounds(rows=3), FileBounds(rows=0)
    assert merged([known, unknown][::order]) == FileBounds(rows=5)
    assert merged([known, empty][::order]) == known, "what has no rows says nothing of any"
    other = FileBounds(rows=1, lowest={"a": 0}, highest={"a": 0}, nulls={"a": 0})
    assert merged([known, other][::order]) == FileBounds(rows=3), "of other columns"
