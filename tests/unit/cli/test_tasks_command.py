"""`thalweg tasks`, and the tasks that a filter means."""

import json
import re
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from deltalake import write_deltalake

from tests.ledger_rows import START
from tests.unit.cli.conftest import put
from thalweg.cli.main import cli
from thalweg.cli.tasks_command import gpus_of
from thalweg.query.reports.task_list import Meant, TaskFilter, meant_tasks
from thalweg.query.sql.query import TableReader
from thalweg.sync.delta.contracts import TASKS, TASKS_ARCHIVE


def task(task_id: str, state: str = "waiting", **more: Any) -> dict[str, Any]:
    request = {"task_id": task_id, "per_worker": {"gpus": 2}, "workers": 3}
    return {
        "task_id": task_id, "state": state, "epoch": 0, "tenant": "default", "priority": 500, "regions": [],
        "cost_usd_per_hour": 0.0, "submitted_at": START, "changed_at": START, "request": json.dumps(request),
    } | more  # fmt: skip


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Live tasks and two that ended long ago."""
    put(tmp_path, TASKS, [
        task("train_1", name="train_a", priority=1, cost_usd_per_hour=2.0, value_usd_per_hour=0.5),
        task("trainX1", name="trainXa", priority=3, reason="capacity: no GPU; 50 % are held"),
        task("sweep[0]", "running", regions=["aws:us-east-1"], cost_usd_per_hour=9.5, value_usd_per_hour=12.0),
        task("sweep[1]", "failed", changed_at=START + timedelta(hours=1), reason="exit code 3"),
        task("sweep", "waiting", tenant="o'hara \\' or '1'='1"),
    ])  # fmt: skip
    put(tmp_path, TASKS_ARCHIVE, [task("old", "succeeded", changed_at=START - timedelta(days=3)), task("sweep[2]")])
    return tmp_path


def run(warehouse: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["tasks", "--warehouse", str(warehouse), *arguments])


def listed(warehouse: Path, *arguments: str) -> list[str]:
    result = run(warehouse, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return [one["task_id"] for one in json.loads(result.stdout)["tasks"]]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--name", "train_a"], ["train_1"]),  # _ and % are letters like others
        (["--name", "train?a"], ["trainX1", "train_1"]),
        (["--name", "train*", "--sort", "priority"], ["trainX1", "train_1"]),
        (["--name", "sweep[[]0]"], []),
        (["--name", "sweep*"], ["sweep[1]", "sweep", "sweep[0]"]),  # without a name, the id
        (["--array", "sweep"], ["sweep[1]", "sweep[0]"]),
        (["--array", "sweep", "--all"], ["sweep[1]", "sweep[0]", "sweep[2]"]),
        (["--reason", "50 %"], ["trainX1"]),
        (["--reason", "EXIT CODE"], ["sweep[1]"]),
        (["--tenant", "o'hara \\' or '1'='1"], ["sweep"]),
        (["--region", "aws:us-east-1"], ["sweep[0]"]),
        (["--since", "2026-06-01T12:30:00Z"], ["sweep[1]"]),
        (["--since", "2026-05-01T00:00:00Z", "--state", "succeeded"], ["old"]),
        (["--task", "old"], ["old"]),
        (["--state", "succeeded"], []),
        (["--all", "--state", "succeeded"], ["old"]),
        (["--sort", "cost", "--limit", "2"], ["sweep[0]", "train_1"]),
        (["--sort", "value", "--limit", "2"], ["sweep[0]", "train_1"]),
        (["--sort", "task", "--reverse", "--limit", "2"], ["train_1", "trainX1"]),
        (["--sort", "state", "--limit", "1"], ["sweep[1]"]),
    ],
    ids=" ".join,
)
def test_tasks_are_found_by_what_is_known_of_them(many: Path, arguments: list[str], found: list[str]) -> None:
    assert listed(many, *arguments) == found


def test_json_has_every_column_of_the_table(many: Path) -> None:
    (found,) = json.loads(run(many, "--task", "sweep[0]", "--json").stdout)["tasks"]
    assert found.keys() == set(TASKS.columns.names)
    assert json.loads(found["request"])["per_worker"] == {"gpus": 2}


def test_a_person_reads_ages_gpus_and_money(many: Path) -> None:
    lines = run(many, "--task", "sweep[0]").stdout.splitlines()
    assert lines[0].split() == ["task", "state", "where", "GPUs", "USD/h", "delay", "USD/h", "tenant", "prio", "tries",
                                "submitted", "changed", "reason"]  # fmt: skip
    told = re.sub(r"\d+ days ago", "AGE", lines[2]).split()
    assert told == ["sweep[0]", "running", "aws:us-east-1", "6", "9.50", "12.00", "default", "500", "AGE", "AGE"]
    assert lines[-1] == "1 of 1 task: 1 running"


def test_who_finds_nothing_is_told_what_to_do(many: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "thalweg tasks, and --all for those that ended long ago" in run(many, "--name", "nothing").stdout
    empty = tmp_path_factory.mktemp("empty")
    assert "Submit one: thalweg submit" in run(empty).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "17"], "allowed are an age (2h)"),
        (["--since", "soon"], "--since 'soon'"),
        (["--watch", "--as-of", "1h ago"], "allowed is one of the two"),
        (["--sort", "beauty"], "'beauty' is not one of"),
        (["--state", "held"], "--held means those"),
    ],
    ids=" ".join,
)
def test_a_wrong_call_says_what_is_allowed(many: Path, arguments: list[str], words: str) -> None:
    result = run(many, *arguments)
    assert (result.exit_code, words in result.stderr, result.stdout) == (2, True, "")


def test_people_count_what_they_see_in_the_rows(many: Path) -> None:
    put(many, TASKS, [task("kept", held=True), task("going", "running", held=True)])
    assert run(many, "--limit", "1").stdout.endswith("1 of 7 tasks: 1 failed, 1 held, 2 running, 3 waiting\n")
    assert json.loads(run(many, "--json").stdout)["by_state"] == {"failed": 1, "running": 2, "waiting": 4}


def test_ctrl_c_ends_a_watch_quietly(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    # The module's own clock: other threads of the process may sleep meanwhile.
    monkeypatch.setattr("thalweg.cli.tasks_command.time", SimpleNamespace(sleep=interrupt))
    seen = run(many, "--watch")
    assert (seen.exit_code, seen.stderr) == (130, "")


def test_a_table_of_an_older_version_has_no_names(tmp_path: Path) -> None:
    rows = pa.Table.from_pylist([task("t")], schema=TASKS.schema).drop_columns(["name"])
    write_deltalake(str(tmp_path / "tasks"), rows)
    assert listed(tmp_path, "--name", "t") == ["t"]


def test_all_that_are_meant_are_named_once(many: Path) -> None:
    put(many, TASKS_ARCHIVE, [task("sweep[0]", "failed")])  # it lives anew
    with TableReader(str(many)) as reader:
        assert meant_tasks(reader, TaskFilter(array="sweep", ended_too=True)) == Meant(
            task_ids=["sweep[0]", "sweep[1]", "sweep[2]"], by_state={"failed": 1, "running": 1, "waiting": 1}
        )


@pytest.mark.parametrize(
    ("request_text", "gpus"),
    [
        (None, 0.0),
        ("{}", 0.0),
        ('{"per_worker": {"gpu_milli": 250}, "workers": 2}', 0.5),
        ('{"subtasks": [{"workers": 2, "per_worker": {"gpus": 4}}, {}]}', 8.0),
        ("[1]", None),
        ('{"per_worker": 3}', None),
        ("{", None),
    ],
)
def test_the_gpus_of_a_request_are_counted_where_it_is_one(request_text: str | None, gpus: float | None) -> None:
    assert gpus_of(request_text) == gpus


def test_watching_looks_again(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    # The module's own clock: other threads of the process may sleep meanwhile.
    monkeypatch.setattr("thalweg.cli.tasks_command.time", SimpleNamespace(sleep=sleep))
    result = run(many, "--watch", "--json", "--task", "old")
    assert [json.loads(line)["matching"] for line in result.stdout.splitlines()] == [1, 1, 1]
