"""Spark with conf/spark-defaults.conf reads the tables that were written without it, and sees what we see."""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from sync.delta_store import append, open_or_create
from sync.folds import fold_ledger
from sync.tables import CONTRACTS, DECISIONS, PLACEMENTS, TASKS
from tests.ledger_rows import assigned, happened, ledger, submitted
from thalweg.query import query

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    for contract in CONTRACTS:
        open_or_create(contract, str(folder))
    commits = [
        ledger(submitted("t1"), submitted("t2"), assigned("t1", 1), batch_id=1),
        ledger(happened("t1", "running", 1), happened("t2", "waiting", reason="capacity: none"), batch_id=2),
    ]
    for rows in commits:
        append(open_or_create(DECISIONS, str(folder)), rows)
    for contract, table in zip((TASKS, PLACEMENTS), fold_ledger(pa.concat_tables(commits)), strict=True):
        append(open_or_create(contract, str(folder)), table)
    return folder


def test_every_table_opens_with_its_contracts_columns(spark: "SparkSession", warehouse: Path) -> None:
    for contract in CONTRACTS:
        found = spark.sql(f"SELECT * FROM delta.`{warehouse}/{contract.name}`")
        assert found.columns == contract.schema.names, contract.name


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT task_id, state, epoch, priority, reason FROM {tasks} ORDER BY task_id",
        "SELECT transition, count(*) AS n FROM {decisions} GROUP BY transition ORDER BY transition",
        "SELECT t.task_id, p.region, p.cost_usd_per_hour FROM {tasks} t JOIN {placements} p ON t.task_id = p.task_id",
    ],
)
def test_spark_and_thalweg_sql_give_the_same_rows(spark: "SparkSession", warehouse: Path, sql: str) -> None:
    names = ("tasks", "decisions", "placements")
    by_spark = spark.sql(sql.format(**{name: f"delta.`{warehouse}/{name}`" for name in names})).collect()
    by_us = query(sql.format(**{name: name for name in names}), str(warehouse)).rows.to_pylist()
    assert by_us
    assert [row.asDict() for row in by_spark] == by_us


def test_spark_travels_to_a_version_as_thalweg_sql_does(spark: "SparkSession", warehouse: Path) -> None:
    (row,) = spark.sql(f"SELECT count(*) AS n FROM delta.`{warehouse}/decisions` VERSION AS OF 1").collect()
    assert row.n == 3


def test_times_are_the_same_moments_in_both(spark: "SparkSession", warehouse: Path) -> None:
    sql = "SELECT CAST(max(decided_at) AS STRING) AS at FROM {}"
    (row,) = spark.sql(sql.format(f"delta.`{warehouse}/decisions`")).collect()
    (ours,) = query(sql.format("decisions"), str(warehouse)).rows.to_pylist()
    assert row["at"].replace(" ", "T") == ours["at"].removesuffix("Z")
