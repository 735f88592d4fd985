"""Whatever type an expression yields, a query prints it: as table, as CSV and as JSON, the same on every machine."""

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from arro3.core import Table
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from thalweg.cli.main import cli
from thalweg.query.sql.query import QueryAnswer
from thalweg.query.sql.values import distinct

NOWHERE_ELSE = "Pacific/Kiritimati"
"""Fourteen hours from UTC."""

INT64 = st.integers(-(2**63), 2**63 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)


def integers(kind: pa.DataType, width: pa.DataType, values: st.SearchStrategy[int]) -> st.SearchStrategy[pa.Array]:
    return st.lists(st.none() | values, min_size=2, max_size=2).map(lambda found: pa.array(found, width).cast(kind))


def simple(kind: pa.DataType, values: st.SearchStrategy[object]) -> st.SearchStrategy[pa.Array]:
    return st.lists(st.none() | values, min_size=2, max_size=2).map(lambda found: pa.array(found, kind))


LEAVES: st.SearchStrategy[pa.Array] = st.one_of(
    *(
        integers(pa.timestamp(unit, zone), pa.int64(), INT64)
        for unit in ("s", "ms", "us", "ns")
        for zone in (None, "UTC")
    ),
    integers(pa.timestamp("us", "Asia/Kathmandu"), pa.int64(), INT64),
    *(integers(pa.duration(unit), pa.int64(), INT64) for unit in ("s", "ms", "us", "ns")),
    integers(pa.date32(), pa.int32(), INT32),
    integers(pa.date64(), pa.int64(), st.integers(-(10**11), 10**11).map(lambda day: day * 86_400)),
    integers(pa.time32("s"), pa.int32(), st.integers(0, 86_399)),
    integers(pa.time64("ns"), pa.int64(), st.integers(0, 86_400 * 10**9 - 1)),
    simple(pa.month_day_nano_interval(), st.tuples(INT32, INT32, st.integers(0, 10**15))),
    simple(pa.decimal128(38, 3), st.decimals(-(10**30), 10**30, places=3)),
    simple(pa.decimal256(76, 0), st.decimals(-(10**60), 10**60, places=0)),
    simple(pa.float64(), st.floats()),
    simple(pa.float32(), st.floats(width=32)),
    simple(pa.uint64(), st.integers(0, 2**64 - 1)),
    simple(pa.bool_(), st.booleans()),
    simple(pa.binary(), st.binary(max_size=4)),
    simple(pa.binary(2), st.binary(min_size=2, max_size=2)),
    simple(pa.string_view(), st.text(max_size=4)),
    simple(pa.large_string(), st.text(max_size=4)),
    simple(pa.null(), st.none()),
    simple(pa.string(), st.text(max_size=4)).map(lambda column: column.dictionary_encode()),
)


def nested(inner: st.SearchStrategy[pa.Array]) -> st.SearchStrategy[pa.Array]:
    struct: Callable[..., pa.Array] = pa.StructArray.from_arrays
    return st.one_of(
        inner.map(lambda column: pa.ListArray.from_arrays([0, 1, 2], column)),
        inner.map(lambda column: pa.LargeListArray.from_arrays([0, 0, 2], column)),
        inner.map(lambda column: pa.FixedSizeListArray.from_arrays(column, 1)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: struct(parts, ["x", "x", "y"][: len(parts)])),
    )


COLUMNS = st.recursive(LEAVES, nested, max_leaves=4)


@pytest.fixture(scope="module", autouse=True)
def far_from_utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", NOWHERE_ELSE)
        time.tzset()
        yield
    time.tzset()


def sql(statement: str, form: str, tmp_path: Path) -> Result:
    return CliRunner().invoke(cli, ["sql", statement, "--format", form, "--warehouse", str(tmp_path)])


def value(expression: str, tmp_path: Path) -> object:
    found = sql(f"SELECT {expression} AS found", "json", tmp_path)
    assert found.exit_code == 0, (found.stderr, found.exception)
    return json.loads(found.stdout)["rows"][0]["found"]


@given(column=COLUMNS)
def test_every_type_that_arrow_has_can_be_shown_and_is_json(column: pa.Array) -> None:
    answer = QueryAnswer(found=Table.from_arrow(pa.table({"a": column})), cut_off=False)
    shown = answer.shown()
    assert json.loads(json.dumps(shown, allow_nan=False)) == [list(row) for row in shown]
    assert len(shown) == len(column)
    assert len(answer.types) == 1


@given(moments=st.lists(st.datetimes(), min_size=1), zone=st.sampled_from([None, "UTC", "America/St_Johns"]))
def test_a_time_is_the_utc_text_that_python_gives_it(moments: list[datetime], zone: str | None) -> None:
    column = pa.array([moment.replace(tzinfo=UTC) for moment in moments]).cast(pa.timestamp("us", zone))
    answer = QueryAnswer(found=Table.from_arrow(pa.table({"a": column})), cut_off=False)
    assert answer.shown() == [(f"{moment.isoformat()}Z",) for moment in moments]


@given(days=st.lists(st.dates(), min_size=1))
def test_a_day_is_the_day_of_pythons_calendar(days: list[date]) -> None:
    answer = QueryAnswer(found=Table.from_arrow(pa.table({"a": pa.array(days)})), cut_off=False)
    assert answer.shown() == [(day.isoformat(),) for day in days]


@given(names=st.lists(st.sampled_from(["a", "a:1", "a:2", "b", ""])))
def test_distinct_names_are_distinct_and_a_name_that_was_is_kept(names: list[str]) -> None:
    found = distinct(names)
    assert len(set(found)) == len(found) == len(names)
    assert set(names) <= set(found)
    assert all(new.startswith(old) for new, old in zip(found, names, strict=True))


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("timestamp '2026-01-02T03:04:05'", "2026-01-02T03:04:05Z"),
        ("to_timestamp(1.5)", "1970-01-01T00:00:01.500000Z"),
        ("to_timestamp_micros(1)", "1970-01-01T00:00:00.000001Z"),
        ("timestamp '2026-01-02' - timestamp '2026-01-01T23:00:00'", "PT3600S"),
        ("interval '1 month 2 days'", "1 mons 2 days"),
        ("arrow_cast(253402300800000, 'Date64')", "+10000-01-01"),
        ("arrow_cast(253402300800, 'Timestamp(Second, None)')", "+10000-01-01T00:00:00Z"),
        ("cast('12345678901234567890.12' as decimal(30, 2))", "12345678901234567890.12"),
        ("[timestamp '2026-01-01', null]", ["2026-01-01T00:00:00Z", None]),
        ("named_struct('x', date '2026-01-01', 'x', 2)", {"x": "2026-01-01", "x:1": 2}),
        ("map(['a'], [1])", [["a", 1]]),
        ("'nan'::double", None),
        ("'-inf'::float", None),
        ("arrow_cast('x', 'Binary')", "eA=="),
        ("18446744073709551615", 18446744073709551615),
    ],
)
def test_what_an_expression_yields_is_shown_in_all_three_forms(expression: str, shown: object, tmp_path: Path) -> None:
    assert value(expression, tmp_path) == shown
    for form in ("table", "csv"):
        found = sql(f"SELECT {expression} AS found", form, tmp_path)
        assert found.exit_code == 0, (found.stderr, found.exception)
        if isinstance(shown, str):
            assert shown in found.stdout


def test_now_is_now_in_utc(tmp_path: Path) -> None:
    text = str(value("now()", tmp_path))
    assert text.endswith("Z")
    seen = datetime.fromisoformat(text[:26]).replace(tzinfo=UTC)
    assert abs(seen - datetime.now(UTC)) < timedelta(minutes=1)


FAR_IN_A_MAP = "map([1], [arrow_cast(253402300800000000, 'Timestamp(Microsecond, None)')])"


@pytest.mark.parametrize(
    "expression", ["to_timestamp(253402300800)", "map([1], [interval '1 day'])", FAR_IN_A_MAP, "1 / 0"]
)
def test_what_cannot_be_had_is_said_in_words(expression: str, tmp_path: Path) -> None:
    found = sql(f"SELECT {expression} AS found", "json", tmp_path)
    assert found.exit_code in (1, 2)
    assert isinstance(found.exception, SystemExit)
    assert found.stderr.startswith("Error: ")


def test_two_columns_of_one_name_are_both_shown(tmp_path: Path) -> None:
    statement = "SELECT l.a, r.a FROM (SELECT 1 AS a) l, (SELECT 2 AS a) r"
    assert sql(statement, "table", tmp_path).stdout.split() == ["a", "a:1", "-", "---", "1", "2"]
    assert list(csv.reader(io.StringIO(sql(statement, "csv", tmp_path).stdout))) == [["a", "a:1"], ["1", "2"]]
    document = json.loads(sql(statement, "json", tmp_path).stdout)
    assert document["rows"] == [{"a": 1, "a:1": 2}]
    assert [column["name"] for column in document["columns"]] == ["a", "a:1"]
