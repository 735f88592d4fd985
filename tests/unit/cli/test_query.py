import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tests.ledger_rows import START, happened, ledger
from thalweg.query.sql import query as query_module
from thalweg.query.sql.as_of import FOLDED, TIME_COLUMN, AsOf, LogTooShortError, Version, parse_as_of
from thalweg.query.sql.query import WarehouseUnreadableError, query
from thalweg.query.sql.sql_statement import QueryRefusedError
from thalweg.query.sql.type_names import type_name
from thalweg.sync.delta.contracts import CONTRACTS, DECISIONS, NODES
from thalweg.sync.delta.store import append, open_or_create

NOW = datetime(2026, 6, 1, 13, tzinfo=UTC)


def answer(sql: str, warehouse: Path, as_of: AsOf | None = None) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in query(sql, str(warehouse), as_of).rows.to_pylist()]


def compact_and_vacuum(table: DeltaTable) -> None:
    table.optimize.compact()
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


def test_every_table_can_be_read_also_before_anybody_has_written_it(tmp_path: Path) -> None:
    for contract in CONTRACTS:
        found = query(f"select * from {contract.name}", str(tmp_path))
        assert found.rows.num_rows == 0
        assert found.rows.column_names == contract.schema.names


def test_tables_are_joined_grouped_and_unnested(warehouse: Path) -> None:
    sql = "select t.tenant, p.region from tasks t join placements p using (task_id) where t.task_id = 't1'"
    assert answer(sql, warehouse) == [("lab", "aws:us-east-1")]
    sql = "select sum(share['gpus']) from (select unnest(nodes) as share from placements)"
    assert answer(sql, warehouse) == [(16,)]


def test_python_values_are_those_that_arrow_gives(warehouse: Path) -> None:
    everything = query("SELECT * FROM decisions", str(warehouse))
    assert everything.dicts() == everything.rows.to_pylist()
    times = query(
        "SELECT TIMESTAMP '1969-12-31T23:59:59.999999' AS before, now() AS nanoseconds, NULL::timestamp AS none,"
        " arrow_cast(TIMESTAMP '2026-11-21T12:00:00', 'Timestamp(Second, None)') AS seconds,"
        " arrow_cast(TIMESTAMP '2026-11-21T12:00:00', 'Timestamp(Microsecond, Some(\"Europe/Berlin\"))') AS there",
        str(warehouse),
    )
    # pyarrow calls pandas for nanoseconds, which are more than a datetime holds.
    (arrow,) = times.rows.to_pylist()
    assert times.dicts() == [
        {
            name: value.to_pydatetime(warn=False) if isinstance(value, pd.Timestamp) else value
            for name, value in arrow.items()
        }
    ]
    assert query("SELECT * FROM tasks WHERE false", str(warehouse)).dicts() == []


def test_types_are_named_as_pyarrow_names_them(warehouse: Path) -> None:
    for contract in CONTRACTS:
        assert [type_name(column.type) for column in contract.columns] == [str(kind) for kind in contract.schema.types]
        assert contract.schema == pa.schema(contract.columns)
    found = query(
        "SELECT 1 AS a, 'x' AS b, 1.5 AS c, NULL AS d, CAST(1.5 AS DECIMAL(10, 2)) AS e, DATE '2026-01-01' AS f,"
        " now() AS g, [named_struct('x', 1)] AS h, INTERVAL '1 day' AS i, arrow_cast(1, 'UInt8') AS j,"
        " arrow_cast(1, 'Duration(Second)') AS k, arrow_cast('x', 'LargeUtf8') AS l, true AS m",
        str(warehouse),
    )
    assert found.types == [str(kind).removesuffix("_view") for kind in found.rows.schema.types]


def test_rows_beyond_the_limit_are_cut_off_and_said_to_be(warehouse: Path) -> None:
    found = query("select * from tasks", str(warehouse), max_rows=3)
    assert (found.rows.num_rows, found.cut_off) == (3, True)
    found = query("select * from tasks", str(warehouse), max_rows=4)
    assert (found.rows.num_rows, found.cut_off) == (4, False)


def test_an_unknown_table_or_column_is_answered_with_those_there_are(warehouse: Path) -> None:
    there_are = r"there are: account, audit, .*, tasks, tasks_archive, telemetry"
    with pytest.raises(QueryRefusedError, match=rf"no table 'task'; {there_are}"):
        query("select * from task", str(warehouse))
    with pytest.raises(QueryRefusedError, match=r"no column nope; there are: plans\(plan_id, "):
        query("select nope from plans", str(warehouse))
    with pytest.raises(QueryRefusedError, match=r"not understood: Expected: .*found: \) at Line: 1, Column: 8"):
        query("select )", str(warehouse))
    with pytest.raises(QueryRefusedError, match=r"not understood: .*Invalid function 'foo'"):
        query("select foo(1)", str(warehouse))


def test_nothing_is_written_whatever_is_asked(warehouse: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    for sql in (f"copy (select 1) to '{out}'", f"explain analyze copy (select 1) to '{out}'", "delete from tasks"):
        with pytest.raises(QueryRefusedError):
            query(sql, str(warehouse))
    assert not out.exists()
    assert answer("select count(*) from tasks", warehouse) == [(4,)]


def test_a_missing_warehouse_and_a_damaged_table_are_named(warehouse: Path) -> None:
    with pytest.raises(WarehouseUnreadableError, match=r"no warehouse at .*nowhere: start the jobs"):
        query("select 1", str(warehouse / "nowhere"))
    for commit in (warehouse / "plans" / "_delta_log").glob("*.json"):
        commit.write_text("not json")
    with pytest.raises(WarehouseUnreadableError, match="table 'plans' cannot be opened"):
        query("select * from plans", str(warehouse))
    assert answer("select count(*) from tasks", warehouse) == [(4,)]


def test_a_version_reads_the_one_table_of_the_query(warehouse: Path) -> None:
    assert answer("select count(*) from decisions", warehouse, Version(1)) == [(6,)]
    assert answer("select count(*) from decisions", warehouse, Version(2)) == [(10,)]
    # `nodes` is a column here, not the table.
    assert len(answer("select nodes from placements", warehouse, Version(1))) == 2
    with pytest.raises(QueryRefusedError, match="'decisions' has versions up to 2, seen --as-of 3"):
        query("select * from decisions", str(warehouse), Version(3))
    with pytest.raises(QueryRefusedError, match="reads links, nodes; give a time"):
        query("select * from nodes join links using (region)", str(warehouse), Version(1))


def test_a_moment_folds_tasks_and_placements_from_the_ledger(warehouse: Path) -> None:
    sql = "select task_id, state from tasks order by task_id"
    assert answer(sql, warehouse, START + timedelta(seconds=9)) == [
        ("t1", "assigned"), ("t2", "waiting"), ("t3", "assigned"),
    ]  # fmt: skip
    assert answer(sql, warehouse, START + timedelta(seconds=10)) == answer(sql, warehouse)
    sql = "select task_id, nodes[1]['node_id'] from placements order by task_id"
    assert answer(sql, warehouse, START) == [("t1", "aws:us-east-1-n1"), ("t3", "gcp:us-west1-n1")]
    assert answer(sql, warehouse, START - timedelta(seconds=1)) == []


def test_a_moment_filters_append_only_tables_by_their_rows_own_time(warehouse: Path) -> None:
    assert answer("select count(*) from decisions", warehouse, START) == [(6,)]
    assert answer("select count(*) from plans", warehouse, START - timedelta(seconds=1)) == [(0,)]


def test_a_moment_reads_current_state_tables_at_the_version_of_that_time(tmp_path: Path) -> None:
    table = open_or_create(NODES, str(tmp_path))
    node = {"region": "r", "node_id": "n", "gpus": 8}
    append(table, pa.Table.from_pylist([node], schema=NODES.schema))
    between = datetime.fromtimestamp(table.history(1)[0]["timestamp"] / 1_000, UTC)
    while datetime.now(UTC) - between < timedelta(milliseconds=5):
        pass  # the log's clock has milliseconds: let the next commit fall into a later one
    append(table, pa.Table.from_pylist([node | {"node_id": "m"}], schema=NODES.schema))
    assert answer("select node_id from nodes", tmp_path, between) == [("n",)]
    assert answer("select node_id from nodes", tmp_path, between - timedelta(days=1)) == []
    table.create_checkpoint()
    (tmp_path / "nodes" / "_delta_log" / f"{0:020d}.json").unlink()
    with pytest.raises(LogTooShortError, match="'nodes': its log no longer reaches back to"):
        query("select * from nodes", str(tmp_path), between)
    with pytest.raises(LogTooShortError, match="version 1 is no longer in its log; the newest is 2"):
        query("select * from nodes", str(tmp_path), Version(1))


def test_every_table_has_a_way_back_to_a_moment() -> None:
    for contract in CONTRACTS:
        assert contract.append_only == (contract.name in TIME_COLUMN), contract.name
    assert all(TIME_COLUMN[c.name] in c.schema.names for c in CONTRACTS if c.append_only)
    assert {*FOLDED} <= {contract.name for contract in CONTRACTS if not contract.append_only}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("17", Version(17)),
        ("2026-06-01T12:00:00Z", START),
        ("2026-06-01 12:00", START),
        ("2026-06-01T14:00:00+02:00", START),
        ("30m ago", NOW - timedelta(minutes=30)),
        ("1.5h", NOW - timedelta(minutes=90)),
    ],
)
def test_as_of_is_a_version_a_time_or_an_age(text: str, meant: AsOf) -> None:
    assert parse_as_of(text, NOW) == meant


@pytest.mark.parametrize("text", ["yesterday", "-1", "2026-13-01", "", "5 parsecs ago", "2026-06-02T00:00:00Z"])
def test_an_as_of_that_is_none_of_these_is_refused(text: str) -> None:
    with pytest.raises(QueryRefusedError, match=r"allowed are a version|lies in the future"):
        parse_as_of(text, NOW)


def test_a_file_that_vanished_under_the_query_is_read_from_the_next_version(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, opened = str(warehouse / "decisions"), []

    def open_then_compact(address: str) -> DeltaTable:
        table = DeltaTable(address)
        if not opened:  # the writer compacts and vacuums between our opening the table and our reading its files
            compact_and_vacuum(DeltaTable(uri))
        opened.append(address)
        return table

    monkeypatch.setattr(query_module, "DeltaTable", open_then_compact)
    # Not count(*): the log alone answers that.
    assert answer("select sum(epoch) from decisions", warehouse) == [(5,)]
    assert len(opened) == 2


def test_a_file_that_is_missing_for_good_is_an_error_after_some_attempts(warehouse: Path) -> None:
    for file in (warehouse / "plans").glob("*.parquet"):
        file.unlink()
    with pytest.raises(WarehouseUnreadableError, match="a file of the tables is missing, also after 5 attempts"):
        query("select * from plans", str(warehouse))
    with pytest.raises(WarehouseUnreadableError, match=r"are swept, or in no backup \(ask for a later moment\)"):
        query("select * from plans", str(warehouse), Version(DeltaTable(warehouse / "plans").version()))


def test_reading_goes_on_while_the_writer_commits_compacts_and_vacuums(tmp_path: Path) -> None:
    table = open_or_create(DECISIONS, str(tmp_path))
    append(table, ledger(happened("t", "running")))
    stop, counts = threading.Event(), []

    def write() -> None:
        batch_id = 0
        while not stop.is_set():
            batch_id += 1
            append(table, ledger(happened("t", "running"), batch_id=batch_id))
            if batch_id % 5 == 0:
                compact_and_vacuum(table)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(counts) < 60 or (counts[-1] < 20 and writer.is_alive()):
            counts.append(answer("select count(*) from decisions", tmp_path)[0][0])
    finally:
        stop.set()
        writer.join()
    assert counts == sorted(counts), "a later read never sees less"
    assert counts[-1] >= 20


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT a.value FROM generate_series(1, 90000) a CROSS JOIN generate_series(1, 9000) b", "more than 100 MB"),
        (
            "SELECT x FROM (SELECT repeat(CAST(a.value + b.value AS varchar), 50) AS x FROM generate_series(1, 3000) a"
            " CROSS JOIN generate_series(1, 1000) b) ORDER BY x LIMIT 3000000",
            "more memory than it may take",
        ),
    ],
)
def test_no_statement_takes_the_machines_memory(
    sql: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_module, "_ENGINE_SHARE", 0.005)
    with pytest.raises(QueryRefusedError, match=words):
        query(sql, str(tmp_path))
