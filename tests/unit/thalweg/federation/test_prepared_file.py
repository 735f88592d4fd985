"""Files of training data in each format: what is written is of the same kind, whole, and says what it was made by."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from thalweg.edge.declaration import Declaration, DeclarationError, read_declaration
from thalweg.federation.prepared_file import SIDECAR, prepare_file
from thalweg.federation.table_files import LONGEST_LINE, PreparedFileError

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
    with pytest.raises(
        DeclarationError, match=r"a figure of note: in .*in\.parquet its type is string; allowed are whole"
    ):
        prepare_file(tmp_path / "in.parquet", tmp_path / "out.parquet", declared(figures={"note": "max"}))
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def refused(folder: Path, name: str, content: bytes, **fields: Any) -> str:
    """Prepare a file of this content, which cannot be; nothing but the file is there afterwards."""
    (folder / name).write_bytes(content)
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises((PreparedFileError, DeclarationError)) as told:
        prepare_file(folder / name, folder / f"out.{name}", declared(**fields))
    assert sorted(path.name for path in folder.iterdir()) == before
    assert name in str(told.value)
    return str(told.value)


def test_what_is_not_utf_8_is_named_by_row_and_field(tmp_path: Path) -> None:
    rows = b"device,at,load,count,note\n1,0,1.5,2,ok\n1,1,1.5,2,caf\xe9\n"
    assert "row 2: note is not UTF-8 (b'caf\\xe9')" in refused(tmp_path, "rows.csv", rows)
    assert "not UTF-8" in refused(tmp_path, "names.csv", b"device,at,load,count,caf\xe9\n1,0,1.5,2,ok\n")


def test_what_arrow_cannot_read_is_told_with_the_files_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = read_declaration({"revision": 1, "window_s": 1})
    odd = pa.table({"at": pa.array([2**62], pa.timestamp("ms"))})  # of a year that Python has not
    parquet.write_table(odd, tmp_path / "odd.parquet")
    with pytest.raises(PreparedFileError, match=r"odd.parquet: it cannot be read"):
        prepare_file(tmp_path / "odd.parquet", tmp_path / "out.parquet", kept)
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n" * 1_000)[:-12])
    with pytest.raises(PreparedFileError, match=r"cut.csv.gz: it cannot be read"):
        prepare_file(tmp_path / "cut.csv.gz", tmp_path / "out.csv.gz", kept)
    (tmp_path / "in.csv").write_text("a\n1\n")
    with pytest.raises(PreparedFileError, match=r"/in.csv: its rows cannot be written in this format: .*in no way"):
        monkeypatch.setattr(csv, "write_csv", _in_no_way)
        prepare_file(tmp_path / "in.csv", tmp_path / "out.csv", kept)
    assert not list(tmp_path.glob("*out*"))


def _in_no_way(*_: object) -> None:
    raise pa.ArrowInvalid("in no way")


def test_the_longest_line_is_said_and_may_be_so_long(tmp_path: Path) -> None:
    head = b"device,at,load,count,note\n1,0,1.5,2,"
    assert "a line of more than 1,048,576 bytes" in refused(tmp_path, "long.csv", head + b"n" * 3 * LONGEST_LINE)
    (tmp_path / "in.csv").write_bytes(head + b"n" * (LONGEST_LINE - 100) + b"\n" + head.split(b"\n")[1] + b"n\n")
    assert prepare_file(tmp_path / "in.csv", tmp_path / "out.csv", declared()).rows_in == 2


@pytest.mark.parametrize("name", ["in.csv", "in.parquet"])
def test_a_file_without_rows_or_values_gives_one_without(name: str, tmp_path: Path) -> None:
    columns = ["device", "at", "load", "count"]
    if name == "in.csv":
        (tmp_path / name).write_text(",".join(columns) + "\n")
    else:
        parquet.write_table(pa.table({column: pa.nulls(0) for column in columns}), tmp_path / name)
    found = prepare_file(tmp_path / name, tmp_path / f"out.{name}", declared())
    assert (found.rows_in, found.rows_out) == (0, 0)
    (tmp_path / "some.csv").write_text("device,at,load,count\n1,5,,2\n1,6,,3\n")
    prepare_file(tmp_path / "some.csv", tmp_path / "left.csv", declared())
    assert csv.read_csv(tmp_path / "left.csv").to_pylist() == [{"device": 1, "at": 6, "load": None, "count": 5}]


def test_decimals_are_refused_by_their_type(tmp_path: Path) -> None:
    columns = {name: pa.array([1]) for name in ("device", "at", "count")}
    made = pa.table({**columns, "load": pa.array([Decimal("1.10")])})
    parquet.write_table(made, tmp_path / "made.parquet")
    content = (tmp_path / "made.parquet").read_bytes()
    assert "its type is decimal128(3, 2); allowed are whole numbers" in refused(tmp_path, "dec.parquet", content)


def test_a_place_that_cannot_be_written_is_told_by_its_own_name(tmp_path: Path) -> None:
    parquet.write_table(arrow_table(), tmp_path / "in.parquet")
    with pytest.raises(PreparedFileError) as told:
        prepare_file(tmp_path / "in.parquet", tmp_path / "no" / "out.parquet", declared())
    assert "/no/out.parquet" in str(told.value) and "/." not in str(told.value)


def test_two_columns_of_one_name_are_told(tmp_path: Path) -> None:
    assert "two columns of one name" in refused(tmp_path, "in.csv", b"device,at,load,load\n1,0,1.5,2\n")


def test_a_line_break_in_a_value_begins_no_row_where_a_block_ends_in_it_either(tmp_path: Path) -> None:
    note = "\n".join("ab" * 20)
    rows = "".join(f'1,{at},1.5,2,"{note}"\n' for at in range(3 * LONGEST_LINE // len(note)))
    (tmp_path / "in.csv").write_text("device,at,load,count,note\n" + rows)
    prepare_file(tmp_path / "in.csv", tmp_path / "out.csv", declared())
    left = csv.read_csv(tmp_path / "out.csv", parse_options=csv.ParseOptions(newlines_in_values=True))
    assert sum(left["count"].to_pylist()) == 2 * (3 * LONGEST_LINE // len(note))
    assert set(left["note"].to_pylist()) == {note}
