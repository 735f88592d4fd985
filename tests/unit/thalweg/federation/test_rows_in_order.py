"""Sorting what does not fit into memory: the same as sorting it there, whatever a run holds."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.federation import rows_in_order as here
from thalweg.federation.rows_in_order import rows_in_order


@given(
    times=st.lists(st.integers(-3, 3), max_size=200),
    run_rows=st.integers(1, 60),
    piece=st.integers(1, 5),
    most=st.integers(2, 5),
)
def test_whatever_a_run_holds_the_order_is_that_of_sorting_all(
    times: list[int], run_rows: int, piece: int, most: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [(at, number, {"value": (at, str(number))}) for number, at in enumerate(times)]
    scratch = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(here, "_PIECE_ROWS", piece)
        patch.setattr(here, "_MOST_RUNS", most)
        assert list(rows_in_order(iter(rows), scratch, run_rows)) == sorted(rows, key=lambda row: row[:2])


def test_what_one_run_holds_is_not_written(tmp_path: Path) -> None:
    rows = [(at, at, {}) for at in range(9, -1, -1)]
    assert next(rows_in_order(rows, tmp_path, 10)) == (0, 0, {}) and not list(tmp_path.iterdir())
    assert next(rows_in_order(rows, tmp_path, 9)) == (0, 0, {}) and len(list(tmp_path.iterdir())) == 2
