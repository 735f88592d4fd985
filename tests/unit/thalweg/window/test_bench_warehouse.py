"""The warehouse that the benchmarks of the window make is of this version: its tables have all their columns."""

from datetime import UTC, datetime
from pathlib import Path

from deltalake import DeltaTable

from thalweg.benchmarks.window.warehouse import WarehouseSize, make_window_warehouse
from thalweg.query.sql.query import TableReader
from thalweg.sync.delta.contracts import ACCOUNT, DECISIONS, LINKS, NODES, PLACEMENTS, PLANS, PRICES, TASKS
from thalweg.sync.delta.store import table_uri


def test_it_has_the_columns_and_the_tasks_that_are_asked_for(tmp_path: Path) -> None:
    make_window_warehouse(str(tmp_path), datetime(2026, 12, 1, tzinfo=UTC), WarehouseSize.of(2_000, 160, 40))
    for contract in (TASKS, PLACEMENTS, NODES, LINKS, PRICES, PLANS, ACCOUNT, DECISIONS):
        assert set(DeltaTable(table_uri(str(tmp_path), contract.name)).to_pyarrow_table().column_names) == set(
            contract.columns.names
        ), contract.name
    with TableReader(str(tmp_path)) as reader:
        states = {row["state"]: row["n"] for row in reader.dicts("SELECT state, count(*) AS n FROM tasks GROUP BY 1")}
        (row,) = reader.dicts("SELECT min(value_usd_per_hour) AS least, max(value_usd_per_hour) AS most FROM tasks")
    assert (states["running"], states["waiting"], sum(states.values())) == (160, 40, 2_000)
    assert 0.0 < row["least"] < row["most"]
