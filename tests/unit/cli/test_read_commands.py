import csv
import io
import json
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from deltalake import write_deltalake

from tests.ledger_rows import START, happened, ledger, submitted
from tests.unit.cli.conftest import put
from thalweg.cli.main import cli
from thalweg.query.reports.region_report import region_rows
from thalweg.scheduling.world.orders import Drain, OrderRow, subject_of, write_order_row
from thalweg.sync.delta.contracts import DECISIONS, NODES, PLANS


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def document(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_sql_prints_a_table_csv_or_json(warehouse: Path) -> None:
    query = ["sql", "select task_id, cost_usd_per_hour as usd, regions from tasks where task_id = 't1'"]
    place = ["--warehouse", str(warehouse)]
    assert run(*query, *place).stdout.splitlines() == [
        "task_id  usd  regions",
        "-------  ---  -------------",
        "t1        24  aws:us-east-1",
    ]
    printed = list(csv.reader(io.StringIO(run(*query, *place, "--format", "csv").stdout)))
    assert printed == [["task_id", "usd", "regions"], ["t1", "24.0", '["aws:us-east-1"]']]
    found = document(*query, *place)
    assert found["rows"] == [{"task_id": "t1", "usd": 24.0, "regions": ["aws:us-east-1"]}]
    assert found["columns"][1] == {"name": "usd", "type": "double"}
    assert found == json.loads(run(*query, *place, "--format", "json").stdout)


def test_csv_and_json_lose_no_digits_and_json_knows_no_nan(warehouse: Path) -> None:
    query = ["sql", "select 1234567.891 as x, 0.1 + 0.2 as y, 'nan'::double as z", "--warehouse", str(warehouse)]
    assert run(*query, "--format", "csv").stdout.splitlines()[1] == "1234567.891,0.30000000000000004,"
    assert document(*query)["rows"] == [{"x": 1234567.891, "y": 0.1 + 0.2, "z": None}]


def test_what_was_cut_off_is_said(warehouse: Path) -> None:
    result = run("sql", "select * from tasks", "--max-rows", "1", "--warehouse", str(warehouse))
    assert "cut off after 1 row" in result.stderr
    assert document("sql", "select * from tasks", "--max-rows", "1", "--warehouse", str(warehouse))["cut_off"] is True


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["sql", "drop table tasks"], 2, "DROP is not allowed"),
        (["sql", "select nope from tasks"], 2, "no column nope"),
        (["sql", "select 1", "--as-of", "soon"], 2, "--as-of 'soon': allowed are"),
        (["regions", "--as-of", "3"], 2, "give a time"),
        (["tasks", "--state", "lost"], 2, "'lost' is not one of 'waiting'"),
        (["plans", "--limit", "0"], 2, "not in the range"),
        (["plans", "--warehouse", "/nowhere"], 1, "there is no warehouse at /nowhere"),
        (["tasks", "--config", "/nowhere.yaml"], 2, "settings file /nowhere.yaml"),
    ],
)
def test_a_wrong_call_ends_with_2_a_failure_with_1_and_words(
    warehouse: Path, arguments: list[str], exit_code: int, words: str
) -> None:
    if "--warehouse" not in arguments and "--config" not in arguments:
        arguments = [*arguments, "--warehouse", str(warehouse)]
    result = run(*arguments)
    assert result.exit_code == exit_code
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_tasks_are_filtered_counted_and_limited(warehouse: Path) -> None:
    def listed(*arguments: str) -> list[str]:
        return [task["task_id"] for task in document("tasks", "--warehouse", str(warehouse), *arguments)["tasks"]]

    assert listed() == ["t1", "t3", "t4", "t2"]  # last changed first, then by id
    assert listed("--state", "waiting") == ["t2"]
    assert listed("--state", "waiting", "--state", "running") == ["t1", "t2"]
    assert listed("--tenant", "lab") == ["t1"]
    assert listed("--region", "gcp:us-west1") == ["t3", "t4"]
    assert listed("--task", "t2") == ["t2"]
    assert listed("--tenant", "o'hara' or '1'='1") == []
    found = document("tasks", "--warehouse", str(warehouse), "--limit", "1")
    assert (found["matching"], len(found["tasks"])) == (4, 1)
    assert found["by_state"] == {"assigned": 1, "running": 1, "succeeded": 1, "waiting": 1}
    told = run("tasks", "--warehouse", str(warehouse), "--limit", "2").stdout
    assert "2 of 4 tasks: 1 assigned, 1 running, 1 succeeded, 1 waiting" in told


def test_tasks_of_the_past_are_those_of_that_moment(warehouse: Path) -> None:
    found = document("tasks", "--warehouse", str(warehouse), "--as-of", "2026-06-01T12:00:05Z")
    assert found["by_state"] == {"assigned": 2, "waiting": 1}


def test_regions_show_capacity_use_and_prices(warehouse: Path) -> None:
    found = document("regions", "--warehouse", str(warehouse))["regions"]
    east, west, unplaced = found
    assert east.pop("last_heard_s") is not None
    assert east == {
        "region": "aws:us-east-1", "state": "silent",
        "nodes": 2, "gpus": 16, "used_gpus": 8.0, "utilisation": 0.5, "assigned": 0,
        "running": 1, "prices": [
            {"gpu_model": "A100", "spot": False, "usd_per_gpu_hour": 3.06},
            {"gpu_model": "A100", "spot": True, "usd_per_gpu_hour": 1.1},
        ],
        "drained": False, "drained_nodes": [],
    }  # fmt: skip
    assert (west["region"], west["gpus"], west["used_gpus"], west["utilisation"]) == ("gcp:us-west1", 0, 8.0, None)
    assert west["last_heard_s"] is None
    assert unplaced["region"] == "z"
    assert "A100 3.06, A100 spot 1.1" in run("regions", "--warehouse", str(warehouse)).stdout


def test_what_is_drained_is_named(warehouse: Path) -> None:
    def ordered(order: Drain, *, stands: bool = True) -> dict[str, object]:
        row = OrderRow(subject=subject_of(order), who="ann", after=order if stands else None)
        return happened("", "ordered", ordered=write_order_row(row))

    east = "aws:us-east-1"
    orders = [Drain(region=east, node_id="n1"), Drain(region=east, node_id="n0"), Drain(region="z")]
    assert "rained" not in run("regions", "--warehouse", str(warehouse)).stdout
    put(warehouse, DECISIONS, ledger(*map(ordered, orders), ordered(orders[1], stands=False), batch_id=20))
    found = {row["region"]: row for row in document("regions", "--warehouse", str(warehouse))["regions"]}
    assert {name: (row["drained"], row["drained_nodes"]) for name, row in found.items()} == {
        east: (False, ["n1"]), "gcp:us-west1": (False, []), "z": (True, [])
    }  # fmt: skip
    told = " ".join(run("regions", "--warehouse", str(warehouse)).stdout.split())
    assert f"Drained, so that nothing new is placed there: {east}/n1, z; to let it take tasks again" in told


def test_plans_come_newest_first_with_money_delay_and_counts_apart(warehouse: Path) -> None:
    found = document("plans", "--warehouse", str(warehouse), "--limit", "1")["plans"]
    assert [plan["plan_id"] for plan in found] == ["plan-2"]
    assert (found[0]["objective_usd"], found[0]["bound_usd"], found[0]["waiting"]) == (102.0, 100.0, 1)
    assert (found[0]["placed_usd_per_hour"], found[0]["delay_usd_per_hour"], found[0]["placed"]) == (24.48, 1_024.0, 2)
    head, _, row, *rest = run("plans", "--warehouse", str(warehouse), "--limit", "1").stdout.splitlines()
    assert [word for word in ("placed", "costs USD/h", "gap", "waiting", "delay USD/h") if word not in head] == []
    assert [figure for figure in ("24.48", "0.2 %", "1,024.00") if figure not in row] == []
    assert "objective" not in head
    assert "older version" not in "".join(rest)


@pytest.mark.parametrize("moment", [[], ["--as-of", "2026-06-01T13:00:00Z"]])
def test_plans_of_a_table_that_an_older_version_made_are_shown_without_money_and_delay(
    tmp_path: Path, moment: list[str]
) -> None:
    new = ("placed_usd_per_hour", "delay_usd_per_hour", "placed_usd", "least_usd")
    fields = [field for field in PLANS.schema if field.name not in new]
    row = {"plan_id": "p", "query_id": "q", "batch_id": 1, "planned_at": START, "strategy": "flow", "gap": 0.0,
           "status": "optimal", "objective_usd": 4_000_012.0, "bound_usd": 4_000_012.0, "placed": 2,
           "waiting": 4}  # fmt: skip
    write_deltalake(str(tmp_path / "plans"), pa.Table.from_pylist([row], schema=pa.schema(fields)))
    (found,) = document("plans", "--warehouse", str(tmp_path), *moment)["plans"]
    assert (found["objective_usd"], found["delay_usd_per_hour"]) == (4_000_012.0, None)
    out = run("plans", "--warehouse", str(tmp_path), *moment).stdout
    assert "4" in out and "4,000,012" not in out
    assert "Plans of an older version say neither money nor delay" in out


def test_the_warehouse_comes_from_the_settings_or_the_state_folder(
    warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"warehouse: {{path: {warehouse}}}")
    assert document("tasks", "--config", str(config))["matching"] == 4
    monkeypatch.setenv("THALWEG_STATE", str(tmp_path / "elsewhere"))
    assert f"no warehouse at {tmp_path / 'elsewhere' / 'warehouse'}" in run("tasks").stderr


def test_without_a_word_the_warehouse_written_last_is_read(
    warehouse: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("THALWEG_STATE", str(state))
    shutil.copytree(warehouse, state / "demo" / "warehouse")
    assert document("tasks")["matching"] == 4
    put(state / "warehouse", DECISIONS, ledger(submitted("other")))
    assert document("tasks")["matching"] == 0
    put(state / "demo" / "warehouse", DECISIONS, ledger(submitted("t9"), batch_id=20))
    assert document("tasks")["matching"] == 4


def test_a_sample_that_came_after_the_question_was_asked_is_heard_now_not_in_the_future(warehouse: Path) -> None:
    rows = region_rows(str(warehouse), None, START - timedelta(seconds=5))
    assert {row["last_heard_s"] for row in rows} <= {0.0, None}


@pytest.mark.parametrize(
    "arguments",
    [
        ["sql", "select * from tasks"],
        ["sql", "select * from nodes", "--json"],
        ["tasks"],
        ["regions"],
        ["plans"],
        ["explain", "t1"],
        ["explain", "t2"],
    ],
    ids=" ".join,
)
def test_reading_needs_no_jvm_no_spark_no_kafka_and_no_pandas(warehouse: Path, arguments: list[str]) -> None:
    program = (
        "import sys; from thalweg.cli.main import cli; "
        f"cli({[*arguments, '--warehouse', str(warehouse)]!r}, standalone_mode=False); "
        "print(sorted({'pyspark', 'py4j', 'kafka', 'pandas', 'ortools', 'scipy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert len(done.stdout.splitlines()) > 1
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("task", "spared"),
    [
        ("t1", {"pydantic", "yaml", "pyarrow.compute", "scipy.special", "numba", "thalweg.conf.settings"}),
        ("nobody", {"numpy", "pyarrow", "pydantic", "thalweg.scheduling.explain.reasons"}),
    ],
)
def test_an_explanation_loads_what_it_needs(warehouse: Path, task: str, spared: set[str]) -> None:
    program = (
        "import sys; from thalweg.cli.main import cli; "
        "from click import ClickException\n"
        f"try: cli({['explain', task, '--warehouse', str(warehouse)]!r}, standalone_mode=False)\n"
        "except ClickException: pass\n"
        f"print(sorted(set({sorted(spared)!r}) & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def heard(seconds_ago: float, region: str, node_id: str, gpus: int = 8, **more: object) -> dict[str, object]:
    at = START - timedelta(seconds=seconds_ago)
    node = {"region": region, "node_id": node_id, "gpu_model": "A100", "spot": False, "gpus": gpus, "observed_at": at}
    return node | more


def test_a_node_that_vanished_is_not_counted_for_ever_and_a_region_that_fell_silent_is_marked(tmp_path: Path) -> None:
    put(tmp_path, NODES, [
        heard(0, "east", "a"), heard(59, "east", "b"), heard(61, "east", "vanished"), heard(3_600, "east", "long gone"),
        heard(0, "east", "away", state="gone"), heard(0, "east", "full", state="draining"),
        heard(30, "dead", "c"), heard(30, "dead", "d"),
    ])  # fmt: skip
    rows = {row["region"]: row for row in region_rows(str(tmp_path), None, START + timedelta(seconds=1))}
    assert (rows["east"]["state"], rows["east"]["nodes"], rows["east"]["gpus"]) == ("heard", 3, 24)
    assert (rows["dead"]["state"], rows["dead"]["nodes"]) == ("silent", 2)
    later = {row["region"]: row["state"] for row in region_rows(str(tmp_path), None, START + timedelta(hours=1))}
    assert later == {"east": "silent", "dead": "silent"}


def test_gpus_that_nobody_names_a_price_of_are_shown(tmp_path: Path) -> None:
    put(tmp_path, NODES, [heard(0, "home", "a"), heard(0, "home", "cpu", 0, gpu_model=None)])
    (row,) = region_rows(str(tmp_path), None, START)
    assert row["prices"] == [{"gpu_model": "A100", "spot": False, "usd_per_gpu_hour": None}]
    out = run("regions", "--warehouse", str(tmp_path)).stdout
    assert "A100 without a price" in out
    assert "No price is known of GPUs in home: they cost place.assumed_usd_per_gpu_hour" in out


def test_an_older_versions_price_of_waiting_is_not_shown_as_money(warehouse: Path) -> None:
    prices = [
        {"pool_id": "a", "saves_usd": 1.0, "saves_usd_per_hour": 35_928_124.0, "usd_per_gpu_hour": 0.35},
        {"pool_id": "b", "saves_usd": 1.0, "saves_usd_per_hour": 0.25, "usd_per_gpu_hour": 0.35},
    ]
    put(warehouse, PLANS, [
        {"plan_id": "newest", "query_id": "q", "batch_id": 9, "planned_at": START + timedelta(hours=1), "gap": 0.9999,
         "strategy": "flow", "status": "feasible", "objective_usd": 1.0, "bound_usd": 0.0, "pool_prices": prices}
    ])  # fmt: skip
    out = run("plans", "--warehouse", str(warehouse)).stdout
    assert "35" not in out.partition("One GPU more")[2].splitlines()[3].replace("0.35", "")
    assert "a waiting task would start" in out and "0.25" in out
    assert "A plan left tasks waiting that fit a pool by its sums" in out
    assert document("plans", "--warehouse", str(warehouse))["plans"][0]["pool_prices"] == prices


def test_what_a_gpu_is_worth_to_a_delay_is_shown_as_money_however_much_it_is(warehouse: Path) -> None:
    prices = [{"pool_id": "a", "saves_usd": 1.0, "saves_usd_per_hour": 4_096.0, "usd_per_gpu_hour": 0.35}]
    put(warehouse, PLANS, [
        {"plan_id": "newest", "query_id": "q", "batch_id": 9, "planned_at": START + timedelta(hours=1),
         "pool_prices": prices, "delay_usd_per_hour": 4_096.0}
    ])  # fmt: skip
    assert "4,096.00" in run("plans", "--warehouse", str(warehouse)).stdout.partition("One GPU more")[2]
