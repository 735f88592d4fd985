"""Spark with conf/spark-defaults.conf reads the tables that were written without it, and sees what we see."""

import os
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from tests.ledger_rows import assigned, happened, ledger, submitted
from tests.unit.sync.delta.test_filtered_reads import by_deltalake, differences, written
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.query.sql.query import query
from thalweg.sync.delta.contracts import CONTRACTS, DECISIONS, PLACEMENTS, TASKS, TableContract
from thalweg.sync.delta.store import append, open_or_create
from thalweg.sync.ledger.folds import fold_ledger
from thalweg.sync.ledger.ledger import Ledger

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


@pytest.mark.parametrize("contract", [DECISIONS, TASKS], ids=lambda contract: contract.name)
def test_a_filter_in_spark_hides_no_row(spark: "SparkSession", tmp_path: Path, contract: TableContract) -> None:
    uri = written(contract, tmp_path, random.Random(3))
    found = spark.sql(f"SELECT * FROM delta.`{uri}`").cache()
    everything = {name: [row[name] for row in found.collect()] for name in contract.schema.names}
    found.unpersist()
    for field in contract.schema:
        values = [value for value in everything[field.name] if value is not None]
        asked = {"IS NULL": len(everything[field.name]) - len(values)}
        if values and not pa.types.is_nested(field.type) and not pa.types.is_timestamp(field.type):
            text = f"'{values[0].replace(chr(39), chr(92) + chr(39))}'" if isinstance(values[0], str) else values[0]
            asked[f"= {text}"] = values.count(values[0])
            asked[f"< {text}"] = sum(value < values[0] for value in values)
        for test, right in asked.items():
            (row,) = spark.sql(f"SELECT count(*) AS n FROM delta.`{uri}` WHERE `{field.name}` {test}").collect()
            assert row.n == right, (field.name, test)


def test_spark_may_optimise_and_alter_a_table_beside_its_writer(spark: "SparkSession", tmp_path: Path) -> None:
    held = Ledger.claim(str(tmp_path))
    for batch in range(4):
        held.commit(ledger(submitted(f"t{batch}"), batch_id=batch), "q", batch, 0)
        spark.sql(f"OPTIMIZE delta.`{tmp_path}/decisions`")
        spark.sql(f"ALTER TABLE delta.`{tmp_path}/decisions` SET TBLPROPERTIES ('delta.checkpointInterval' = '50')")
        spark.sql(f"COMMENT ON TABLE delta.`{tmp_path}/decisions` IS 'looked at'")
    held.commit(ledger(submitted("t4"), batch_id=4), "q", 4, 0)
    rows = pa.concat_tables(held.all_rows())
    assert rows["task_id"].to_pylist() == [f"t{batch}" for batch in range(5)]
    assert differences(f"{tmp_path}/decisions", {"deltalake": by_deltalake}) == []


def test_spark_shows_what_a_commit_of_ours_wrote(spark: "SparkSession", tmp_path: Path) -> None:
    held = Ledger.claim(str(tmp_path))
    held.commit(ledger(submitted("t1"), submitted("t2")), "q", 0, 0)
    newest = spark.sql(f"DESCRIBE HISTORY delta.`{tmp_path}/decisions` LIMIT 1").collect()[0]
    assert newest.operationMetrics["numOutputRows"] == "2"


def test_the_quick_starts_example_runs_with_a_relative_path(
    spark: "SparkSession", warehouse: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = (PROJECT_ROOT / "docs" / "tutorial" / "quickstart.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(tasks = spark.*?)```", page, re.DOTALL)
    exec(example.replace(".thalweg/warehouse", os.path.relpath(warehouse)), {"spark": spark})
    out = capfd.readouterr().out
    assert re.search(r"\|waiting\| +1\|", out) and re.search(r"\|running\| +1\|", out), out
