"""Tables read and written piece by piece: the same types and the same bytes as with all in memory, and less of it."""

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from thalweg.edge.declaration import read_declaration
from thalweg.federation import table_files
from thalweg.federation.prepared_file import prepare_file
from thalweg.federation.table_files import table_file

FIRST = {
    "nothing": "", "whole": "1", "date": "2024-01-31", "time": "10:00:00", "second": "2024-01-31T10:00:00",
    "zoned": "2024-01-31T10:00:00Z", "fine": "2024-01-31T10:00:00.5", "finer": "2024-01-31T10:00:00.5Z",
    "fraction": "1.5", "text": "x", "no_text": "caf\xe9", "truth": "true",
}  # fmt: skip


@pytest.mark.parametrize("last", FIRST)
@pytest.mark.parametrize("first", FIRST)
def test_types_are_those_that_arrow_finds_with_all_in_memory(
    first: str, last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_files, "LONGEST_LINE", 256)
    file = tmp_path / "in.csv"
    rows = [f"{FIRST[first]},7\n"] * 60 + [f"{FIRST[last]},7\n"] * 2
    file.write_bytes(("a,b\n" + "".join(rows)).encode("latin1"))
    whole = csv.read_csv(file, csv.ReadOptions(block_size=256), csv.ParseOptions(newlines_in_values=True)).schema
    assert dict(table_file(file, tmp_path).kinds) == {one.name: str(one.type) for one in whole}


def written(folder: Path, end: str, order: Any) -> Path:
    count = 3_000
    at = np.arange(count, dtype=np.int64)[order]
    columns = {"device": at % 3, "at": at, "load": np.sin(at).astype(np.float32), "y": at // 700}
    file = folder / f"in{end}"
    if end == ".npz":
        np.savez(file, x=np.stack([columns["load"], columns["load"] * 2], axis=1), **columns)
    elif end == ".parquet":
        parquet.write_table(pa.table(columns), file, row_group_size=500)
    else:
        with pa.output_stream(str(file), compression="detect") as stream:
            csv.write_csv(pa.table(columns), stream)
    return file


@pytest.mark.parametrize("end", [".parquet", ".csv", ".csv.gz", ".npz"])
def test_however_little_is_in_memory_the_file_that_is_written_is_the_same(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path, end, np.random.default_rng(2).permutation(3_000))
    how = read_declaration(
        {"revision": 1, "window_s": 0.005, "thing": ["device"], "time": {"field": "at"}, "figures": {"load": "mean"},
         "at_once": ["y"], "keep": [{"field": "y", "one_of": [0, 2, 4]}]}
    )  # fmt: skip
    found = []
    for run_rows, piece_rows in ((10_000, 10_000), (37, 11)):
        monkeypatch.setattr(table_files, "PIECE_ROWS", piece_rows)
        monkeypatch.setattr("thalweg.federation.prepared_file.PIECE_ROWS", piece_rows)
        target = tmp_path / f"out-{run_rows}{end}"
        told = prepare_file(source, target, how, run_rows=run_rows)
        assert (told.rows_in, told.rows_out) == (3_000, 960)
        raw = target.read_bytes()
        found.append(gzip.decompress(raw) if end == ".csv.gz" else raw)
    assert found[0] == found[1] or end == ".npz"
    if end == ".npz":  # an archive tells when it was made
        one, other = (np.load(tmp_path / f"out-{run_rows}.npz") for run_rows in (10_000, 37))
        assert one.files == other.files and all(one[name].tobytes() == other[name].tobytes() for name in one.files)
        assert one["x"].shape == (960, 2) and one["x"].dtype == np.float32
    assert not list(tmp_path.glob(".*"))


def peak(folder: Path, rows: int) -> int:
    at = np.random.default_rng(1).permutation(rows)
    np.savez(folder / "in.npz", at=at, load=np.ones((rows, 4)))
    how = {"revision": 1, "window_s": 0.1, "time": {"field": "at"}, "figures": {"load.0": "mean"}}
    tracemalloc.start()
    prepare_file(folder / "in.npz", folder / "out.npz", read_declaration(how), run_rows=500)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_three_times_the_rows_take_hardly_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "PIECE_ROWS", 500)
    monkeypatch.setattr("thalweg.federation.rows_in_order._PIECE_ROWS", 10)
    peak(tmp_path, 500)  # what is loaded once
    few, many = peak(tmp_path, 5_000), peak(tmp_path, 15_000)
    assert many < 1.3 * few, (few, many)
