"""A filter never hides a row: every column of every table, in every reader, gives what a full read gives."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import duckdb_extension_delta
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder

from tests.ledger_rows import ledger, submitted
from tests.table_rows import random_rows
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.compaction import files_of, rewrite
from thalweg.sync.delta.contracts import CONTRACTS, DECISIONS, TASKS, TELEMETRY, TableContract
from thalweg.sync.delta.keyed_table import KeyedTable
from thalweg.sync.delta.upkeep import Upkeep
from thalweg.sync.tables.latest_tables import KINDS, LatestTables

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {"=": pc.equal, "<": pc.less, ">": pc.greater}
Count = Callable[[str, str, Any], int]
"""Rows of an open table for which a comparison holds; the operator `is null` takes no value."""


def by_deltalake(uri: str) -> Count:
    data = DeltaTable(uri).to_pyarrow_dataset()

    def count(column: str, operator: str, value: Any) -> int:
        field = pc.field(column)
        wanted = field.is_null() if operator == "is null" else OPERATORS[operator](field, pc.scalar(value))
        return int(data.to_table(columns=[column], filter=wanted).num_rows)

    return count


def by_polars(uri: str, **how: bool) -> Count:
    scanned = pl.scan_delta(uri, **how)

    def count(column: str, operator: str, value: Any) -> int:
        field = pl.col(column)
        if operator == "is null":
            wanted = field.is_null()
        else:
            literal = pl.lit(value.as_py())
            wanted = {"=": field == literal, "<": field < literal, ">": field > literal}[operator]
        return int(scanned.filter(wanted).select(pl.len()).collect().item())

    return count


def by_duckdb(uri: str) -> Count:
    (extension,) = Path(duckdb_extension_delta.__file__).parent.rglob("*.duckdb_extension")
    session = duckdb.connect()
    session.execute(f"LOAD '{extension}'")
    session.execute("SET TimeZone = 'UTC'")
    session.execute(f"ATTACH '{uri}' AS t (TYPE delta, PIN_SNAPSHOT)")

    def count(column: str, operator: str, value: Any) -> int:
        test, values = ("is null", []) if operator == "is null" else (f"{operator} ?", [value.as_py()])
        sql = f'SELECT count(*) FROM t WHERE "{column}" {test}'
        (found,) = session.execute(sql, values).fetchall()
        return int(found[0])

    return count


def by_datafusion(uri: str) -> Count:
    """As `thalweg sql` does."""
    session = QueryBuilder().register("t", DeltaTable(uri))

    def count(column: str, operator: str, value: Any) -> int:
        test = "IS NULL" if operator == "is null" else f"{operator} {_literal(value)}"
        rows = pa.table(session.execute(f'SELECT count(*) AS n FROM t WHERE "{column}" {test}').read_all())
        return int(rows["n"][0].as_py())

    return count


def _literal(value: pa.Scalar) -> str:
    plain = value.as_py()
    if pa.types.is_timestamp(value.type):
        return f"TIMESTAMP '{plain.isoformat()}'"
    if pa.types.is_date(value.type):
        return f"DATE '{plain}'"
    if isinstance(plain, bytes):
        return f"X'{plain.hex()}'"
    return f"'{plain.replace(chr(39), chr(39) * 2)}'" if isinstance(plain, str) else str(plain)


READERS: dict[str, Callable[[str], Count]] = {
    "deltalake": by_deltalake,
    "polars": by_polars,
    "polars through pyarrow": lambda uri: by_polars(uri, use_pyarrow=True),
    "duckdb": by_duckdb,
    "thalweg sql": by_datafusion,
}


def differences(uri: str, readers: dict[str, Callable[[str], Count]] = READERS) -> list[str]:
    """Compare every filter with a full read that filters afterwards."""
    everything = DeltaTable(uri).to_pyarrow_table()
    counts = {name: make(uri) for name, make in readers.items()}
    found = []
    for column, operator, value in questions(everything):
        right = everything[column].null_count
        if operator != "is null":
            right = pc.sum(OPERATORS[operator](everything[column], value)).as_py() or 0
        for reader, count in counts.items():
            seen = count(column, operator, value)
            if seen != right:
                found.append(f"{reader}: {column} {operator} {value}: {seen} of {right}")
    return found


def questions(rows: pa.Table) -> Iterator[tuple[str, str, Any]]:
    for column in rows.column_names:
        yield column, "is null", None
        kind = rows.schema.field(column).type
        values = pc.unique(rows[column].drop_null()) if not pa.types.is_nested(kind) else []
        if len(values):
            yield column, "=", values[0]
        for operator in "<>" if len(values) and not pa.types.is_boolean(kind) and not pa.types.is_binary(kind) else "":
            yield column, operator, values[len(values) // 2]


def written(contract: TableContract, warehouse: Path, chance: random.Random) -> str:
    """Write a table as its job does: several commits, some files merged by its writer."""
    if contract.append_only:
        appender = Appender(contract, str(warehouse))
        for batch in range(4):
            appender.commit(appender.write(random_rows(contract, 5, chance, batch), 0))
        if chance.random() < 0.5:
            parts: dict[object, list[Any]] = {}
            for file in files_of(DeltaTable(appender.uri)):
                parts.setdefault(file.partition_values, []).append(file)
            merged = rewrite(appender, max(parts.values(), key=len), 0, lambda: False)
            assert merged is not None
            appender.commit(merged.actions, purpose="compaction")
        return appender.uri
    if contract in KINDS.values():
        tables, kind = LatestTables(str(warehouse)), next(name for name, known in KINDS.items() if known is contract)
        for batch in range(3):
            tables.offer({kind: random_rows(contract, 4, chance, batch)}, batch)
            tables.write()
        return f"{warehouse}/{contract.name}"
    keyed, gone = KeyedTable(contract, str(warehouse), 8), contract.schema.empty_table()
    for batch in range(4):
        rows = random_rows(contract, 5, chance, batch)
        keyed.write(rows, gone, pa.array([chance.random() < 0.3 for _ in range(5)]), 0)
    return keyed.uri


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_every_filter_of_every_column_finds_what_a_full_read_finds(contract: TableContract, tmp_path: Path) -> None:
    chance = random.Random(contract.name)
    uri = written(contract, tmp_path, chance)
    assert differences(uri) == []
    Upkeep(uri).checkpoint()
    DeltaTable(uri).optimize.compact()  # by somebody else, who writes statistics in a way of their own
    assert differences(uri, {"deltalake": by_deltalake, "thalweg sql": by_datafusion}) == []


def test_a_table_of_an_older_version_is_mended_when_its_writer_opens_it(tmp_path: Path) -> None:
    chance = random.Random(7)
    readers = {"deltalake": by_deltalake, "polars": by_polars}
    for contract in (TELEMETRY, TASKS, DECISIONS):
        uri = f"{tmp_path}/{contract.name}"
        as_before(contract, uri, [random_rows(contract, 5, chance, batch) for batch in range(3)])
        assert differences(uri, {"deltalake": by_deltalake}) != [], "or this test tests nothing"
        (KeyedTable.resumed if contract is TASKS else Appender)(contract, str(tmp_path))
        assert differences(uri, readers) == []
        version = DeltaTable(uri).version()
        Appender(contract, str(tmp_path))
        assert DeltaTable(uri).version() == version, "once"


def as_before(contract: TableContract, uri: str, commits: list[pa.Table]) -> None:
    """Write a table as it was written before: bounds of some columns, and the table does not say of which."""
    partitions = list(contract.partition_by)
    DeltaTable.create(uri, schema=contract.schema, partition_by=partitions or None)
    for version, rows in enumerate(commits, start=1):
        names = [name for name in contract.bounded[:2] if rows[name].null_count < rows.num_rows]
        low = {name: pc.min(rows[name]).as_py() for name in names if pa.types.is_integer(rows.schema.field(name).type)}
        values = {name: str(rows[name][0].as_py()) for name in partitions}
        folder = "".join(f"{name}={value}/" for name, value in values.items())
        path = f"{folder}{version}.parquet"
        Path(f"{uri}/{folder}").mkdir(exist_ok=True)
        pq.write_table(rows.drop_columns(partitions), f"{uri}/{path}")
        statistics = {"numRecords": rows.num_rows, "minValues": low, "maxValues": {}, "nullCount": {}}
        add = {
            "path": path,
            "partitionValues": values,
            "size": Path(f"{uri}/{path}").stat().st_size,
            "modificationTime": 0,
            "dataChange": True,
            "stats": json.dumps(statistics),
        }
        Path(f"{uri}/_delta_log/{version:020d}.json").write_text(json.dumps({"add": add}) + "\n")


def test_a_point_lookup_opens_the_files_that_may_hold_it(tmp_path: Path) -> None:
    appender = Appender(DECISIONS, str(tmp_path))
    for batch in range(5):
        appender.commit(appender.write(ledger(submitted(f"t{batch}"), batch_id=batch), 0))
    table = DeltaTable(appender.uri)
    assert len(table.file_uris(file_pruning_predicate="batch_id = 3")) == 1
    assert len(table.file_uris()) == 5
