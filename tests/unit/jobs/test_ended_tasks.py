"""Tasks that have ended, with results: what `bench ended` measures with many, looked at with few."""

from pathlib import Path

import pytest
from deltalake import DeltaTable

from thalweg.agent.retention import RunRetention
from thalweg.benchmarks.ended.ended import Parameters, agent_disk, given, look_after, write
from thalweg.query.reports.task_runs import element_runs, task_runs

FEW = Parameters(tasks=120, array=20, per_batch=40, agent_runs=60, runs_per_minute=20)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ended")
    write(str(folder), FEW)
    return folder


def test_every_task_gave_its_own_result_and_it_is_found(warehouse: Path) -> None:
    elements = element_runs("sweep", str(warehouse))
    assert [element.index for element in elements] == list(range(20))
    found = [task_runs(f"train-{number:06d}", str(warehouse)) for number in range(100)]
    runs = [one.newest for one in (*elements, *found) if one is not None]
    told = {run.result["seed"]: run for run in runs if run is not None and run.result is not None}
    assert set(told) == set(range(1, 121))
    for number, run in told.items():
        gave = given(number, FEW.result_bytes)
        assert (run.result, run.metrics, run.log) == (gave["result"], gave["metrics"], gave["log"])


def test_what_ended_long_ago_is_archived_and_no_result_is_lost(warehouse: Path) -> None:
    kept = look_after(str(warehouse), FEW, archive_after_s=86_400)["tables"]
    assert kept["tasks"]["rows"] == 121
    moved = look_after(str(warehouse), FEW, archive_after_s=1)["tables"]
    assert (moved["tasks"]["rows"], moved["tasks_archive"]["rows"], moved["results"]["rows"]) == (0, 121, 121)
    found = task_runs("train-000007", str(warehouse))
    assert found is not None
    assert found.state == "succeeded"
    assert len(element_runs("sweep", str(warehouse))) == 20
    assert DeltaTable(str(warehouse / "account")).count() > 0


def test_folders_of_runs_never_number_more_than_are_kept_and_a_minutes_worth(tmp_path: Path) -> None:
    figures = agent_disk(tmp_path / "runs", FEW, RunRetention(runs=30))
    assert figures["kept_folders"] == 30
    assert figures["most_folders"] <= 30 + FEW.runs_per_minute
