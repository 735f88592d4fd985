"""Files of training data in each format: what is written is of the same kind, whole, and says what it was made by."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from thalweg.edge.declaration import Declaration, DeclarationError, read_declaration
from thalweg.federation.prepared_file import SIDECAR, PreparedFileError, prepare_file

ROWS = 600
RANDOM = np.random.default_rng(3)
AT_MS = np.sort(RANDOM.integers(0, 60_000, ROWS))
LOAD = RANDOM.random(ROWS).astype(np.float32)
COUNT = RANDOM.integers(0, 9, ROWS)
DEVICE = RANDOM.integers(0, 3, ROWS)
FIGURES = {"load": "mean", "count": "sum"}


def declared(**fields: Any) -> Declaration:
    whole = {"revision": 4, "window_s": 10, "thing": ["device"], "time": {"field": "at"}, "figures": FIGURES}
    return read_declaration({**whole, **fields})


def by_group(values: Any) -> dict[tuple[int, int], list[Any]]:
    found: dict[tuple[int, int], list[Any]] = {}
    for device, at, value in zip(DEVICE, AT_MS, values, strict=True):
        found.setdefault((int(device), int(at) // 10_000), []).append(value)
    return found


def shuffled(table: pa.Table) -> pa.Table:
    return table.take(np.random.default_rng(1).permutation(ROWS))


def arrow_table() -> pa.Table:
    moments = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(at)) for at in AT_MS]
    columns = {"device": DEVICE, "at": pa.array(moments, pa.timestamp("us", "UTC")), "load": LOAD, "count": COUNT}
    return pa.table({**columns, "note": pa.array(["n"] * ROWS)})


def held_against_the_groups(left: pa.Table) -> None:
    loads, counts = by_group(LOAD), by_group(COUNT)
    assert left.num_rows == len(loads)
    for row in left.to_pylist():
        at = row["at"].timestamp() * 1_000 if isinstance(row["at"], datetime) else row["at"]
        group = row["device"], int(at) // 10_000
        assert row["load"] == pytest.approx(np.mean(loads[group], dtype=np.float64), rel=1e-7)
        assert row["count"] == sum(counts[group])


def test_parquet_of_any_order_becomes_parquet_of_windows_in_its_own_types(tmp_path: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    parquet.write_table(shuffled(arrow_table()), source)
    found = prepare_file(source, target, declared(), record="edge/training")
    left = parquet.read_table(target)
    held_against_the_groups(left)
    assert left.schema.field("load").type == pa.float32() and left.schema.field("count").type == pa.float64()
    assert left.schema.field("at").type == pa.timestamp("us", "UTC")
    told = json.loads((tmp_path / f"out.parquet{SIDECAR}").read_text())
    assert (told["record"], told["revision"], told["declaration"]["window_s"]) == ("edge/training", 4, 10)
    assert (told["rows_in"], told["rows_out"]) == (found.rows_in, found.rows_out) == (ROWS, left.num_rows)
    assert told["bytes_out"] == target.stat().st_size < told["bytes_in"] == source.stat().st_size
    assert told["figures"] == {"load": "mean, exact", "count": "sum, exact"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.parquet", f"out.parquet{SIDECAR}"]


@pytest.mark.parametrize("end", ["csv", "csv.gz"])
def test_csv_becomes_csv(end: str, tmp_path: Path) -> None:
    source, target = tmp_path / f"in.{end}", tmp_path / f"out.{end}"
    table = pa.table({"device": DEVICE, "at": AT_MS, "load": LOAD, "count": COUNT})
    with pa.output_stream(str(source), compression="detect") as stream:
        csv.write_csv(shuffled(table), stream)
    prepare_file(source, target, declared())
    held_against_the_groups(csv.read_csv(target))
    assert (target.read_bytes()[:2] == b"\x1f\x8b") == (end == "csv.gz")


def test_arrays_become_arrays_and_a_matrix_is_a_field_for_each_column(tmp_path: Path) -> None:
    x = np.stack([LOAD, LOAD * 2], axis=1)
    np.savez(tmp_path / "in.npz", x=x, y=(DEVICE == 1).astype(np.int64), device=DEVICE, at=AT_MS)
    declaration = declared(figures={"x.0": "mean", "x.1": "max"}, at_once=["y"])
    prepare_file(tmp_path / "in.npz", tmp_path / "out.npz", declaration)
    with np.load(tmp_path / "out.npz") as left:
        groups = by_group(LOAD)
        assert left["x"].shape == (len(groups), 2) and left["x"].dtype == np.float32
        assert left["y"].dtype == np.int64 and (left["y"] == (left["device"] == 1)).all()
        for device, at, row in zip(left["device"], left["at"], left["x"], strict=True):
            loads = groups[int(device), int(at) // 10_000]
            assert row[0] == pytest.approx(np.mean(loads, dtype=np.float64), rel=1e-6)
            assert row[1] == np.max(loads) * np.float32(2)


def test_a_file_without_time_is_filtered_and_its_values_stay_bit_for_bit(tmp_path: Path) -> None:
    x, y = RANDOM.random((50, 4)), RANDOM.integers(0, 5, 50)
    np.savez(tmp_path / "in.npz", x=x, y=y)
    wanted = read_declaration({"revision": 1, "window_s": 1, "keep": [{"field": "y", "one_of": [1, 3]}]})
    found = prepare_file(tmp_path / "in.npz", tmp_path / "out.npz", wanted)
    chosen = (y == 1) | (y == 3)
    with np.load(tmp_path / "out.npz") as left:
        assert left["x"].tobytes() == x[chosen].tobytes() and left["y"].tobytes() == y[chosen].tobytes()
    assert found.rows_out == chosen.sum()
    nobody = read_declaration({"revision": 1, "window_s": 1, "keep": [{"field": "y", "min": 9}]})
    assert prepare_file(tmp_path / "in.npz", tmp_path / "out.npz", nobody).rows_out == 0
    with np.load(tmp_path / "out.npz") as left:
        assert left["x"].shape == (0, 4)


def test_what_cannot_be_prepared_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    good = tmp_path / "in.npz"
    np.savez(good, x=np.zeros((3, 2)), y=np.zeros(3))
    np.savez(tmp_path / "odd.npz", x=np.zeros((3, 2)), y=np.zeros(4))
    np.savez(tmp_path / "deep.npz", x=np.zeros((3, 2, 2)))
    for name in ("broken.npz", "broken.parquet", "in.txt"):
        (tmp_path / name).write_bytes(b"no such file")
    parquet.write_table(arrow_table(), tmp_path / "in.parquet")
    plain = read_declaration({"revision": 1, "window_s": 1})
    before = sorted(path.name for path in tmp_path.iterdir())
    for source, target, words in (
        ("odd.npz", "out.npz", r"allowed are arrays of one or two axes"),
        ("deep.npz", "out.npz", r"x \(3, 2, 2\)"),
        ("broken.npz", "out.npz", "broken.npz"),
        ("broken.parquet", "out.parquet", "broken.parquet"),
        ("in.txt", "out.txt", r"allowed are files that end in \.parquet"),
        ("in.npz", "out.parquet", "of the format of"),
        ("in.npz", "in.npz", "another file"),
        ("in.npz", "nowhere/out.npz", "No such file"),
    ):
        with pytest.raises(PreparedFileError, match=words):
            prepare_file(tmp_path / source, tmp_path / target, plain)
    with pytest.raises(DeclarationError, match="a figure of note: allowed are fields whose values are numbers"):
        prepare_file(tmp_path / "in.parquet", tmp_path / "out.parquet", declared(figures={"note": "max"}))
    assert sorted(path.name for path in tmp_path.iterdir()) == before
