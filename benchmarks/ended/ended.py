"""`bench ended`: what many finished tasks with results leave behind, how fast they are found, and what retention drops.

Tasks go through the place job's own decisions, ledger, fold and upkeep, without Spark and broker (`ended_driver`). Then
the commands are timed as processes of their own, the tasks are archived, and an agent's folders of runs are swept.
"""

import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import pyarrow as pa
from deltalake import DeltaTable

from thalweg.agent.retention import RunFolders, RunRetention
from thalweg.benchmarks.ended.ended_driver import EndedDriver, Regions, open_tables
from thalweg.conf.settings import PlaceSettings, Settings, WarehouseSettings
from thalweg.jobs.accounting.account import AccountKeeper
from thalweg.jobs.runtime.job import Stop
from thalweg.stack import machine
from thalweg.sync.clock import system_clock
from thalweg.sync.delta.store import table_uri
from thalweg.sync.ledger.ledger import Ledger

ARRAY: Final = "sweep"
TABLES: Final = ("decisions", "tasks", "tasks_archive", "placements", "results", "account", "plans")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What is measured."""

    tasks: int = 100_000
    """Elements of the array among them."""
    array: int = 10_000
    per_batch: int = 1_000
    result_bytes: int = 200
    """Of the JSON object that a task gives; its figures come beside it."""
    looks: int = 3
    """Times that each command is run; the middle one is told."""
    agent_runs: int = 30_000
    """Folders of ended runs that an agent makes; it keeps `agent.keep_runs` of them."""
    runs_per_minute: int = 5_000
    """Between two sweeps."""


def measure(parameters: Parameters) -> dict[str, Any]:
    """Run everything and return the figures.

    Raises:
        AssertionError: something of the tasks is not where the documents say.
    """
    with tempfile.TemporaryDirectory(prefix="bench-ended-") as folder:
        warehouse = Path(folder, "warehouse")
        warehouse.mkdir()
        figures = {
            "written": write(str(warehouse), parameters),
            "after_upkeep": look_after(str(warehouse), parameters, archive_after_s=86_400),
            "commands": _commands(str(warehouse), parameters),
            "archived": look_after(str(warehouse), parameters, archive_after_s=1),
            "agent": agent_disk(Path(folder, "runs"), parameters, RunRetention()),
        }
    return {
        "bench": "ended",
        "machine": machine.describe(),
        "parameters": {name: getattr(parameters, name) for name in Parameters.__slots__},
        **figures,
    }


def _settings(warehouse: str, archive_after_s: int, compact_every_s: int = 60) -> Settings:
    place = PlaceSettings(archive_after_s=archive_after_s, compact_every_s=compact_every_s)
    return Settings(warehouse=WarehouseSettings(path=warehouse), place=place)


def given(number: int, size_bytes: int) -> dict[str, Any]:
    """Make what a run gives: a result of about so many bytes, eight figures, a log and an artefact.

    The words of the result differ from run to run as a digest does: a file can pack what repeats, and this does not.
    """
    name = f"run-{number}"
    words = hashlib.shake_256(name.encode()).hexdigest(max(size_bytes - 60, 0) // 2)
    return {
        "exit_code": 0,
        "metrics": {f"metric_{index}": number / (index + 3) for index in range(8)},
        "result": {"seed": number, "accuracy": 1 - 1 / (number + 2), "words": words},
        "log": f"s3://lab-results/runs/{name}/output.log",
        "artefacts": {"model.joblib": f"s3://lab-results/runs/{name}/artefacts/model.joblib"},
    }


def _requests(parameters: Parameters) -> list[dict[str, Any]]:
    each = {"tenant": "lab", "per_worker": {"gpus": 1, "cpus": 4, "memory_gb": 16}, "expected_s": 600}
    command = ["python", "-m", "train", "--config", "s3://lab-results/configs/base.yaml"]
    singles = [
        {"task_id": f"train-{number:06d}", **each, "command": command}
        for number in range(parameters.tasks - parameters.array)
    ]
    array = {"task_id": ARRAY, **each, "command": command, "array": {"count": parameters.array}}
    return [array, *singles] if parameters.array else singles


def write(warehouse: str, parameters: Parameters) -> dict[str, Any]:
    """Let all tasks be asked for, placed, run and end."""
    began = time.perf_counter()
    regions = Regions(lambda number: given(number, parameters.result_bytes))
    driver = EndedDriver(settings=_settings(warehouse, 86_400), regions=regions, clock=system_clock)
    requests = _requests(parameters)
    while requests or not regions.is_idle or regions.ended < parameters.tasks:
        driver.take(requests[: parameters.per_batch])
        del requests[: parameters.per_batch]
    driver.end()
    assert regions.ended == parameters.tasks
    # The array is a task, too, which ends when all of its elements have.
    assert regions.told_ends == parameters.tasks + bool(parameters.array), "each task tells its end once"
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "end_events_bytes_per_task": round(regions.told_bytes / regions.told_ends),
        "tables": sizes(warehouse, parameters.tasks),
    }


def look_after(warehouse: str, parameters: Parameters, *, archive_after_s: int) -> dict[str, Any]:
    """Let another life of the place job do its upkeep, and the account be kept; see that nothing was lost."""
    stop = Stop()
    tables = open_tables(_settings(warehouse, archive_after_s, compact_every_s=1), stop)
    time.sleep(max(1, min(archive_after_s, 2)))  # the youngest end is older than what is archived
    tables.start(Ledger.claim(warehouse))
    stop.finish(seconds=3_600)
    account = AccountKeeper(warehouse, system_clock, Stop())
    account.step()
    found = sizes(warehouse, parameters.tasks)
    rows = {name: found[name]["rows"] for name in found}
    all_tasks = parameters.tasks + bool(parameters.array)
    in_tasks = 0 if archive_after_s < 86_400 else all_tasks
    assert (rows["tasks"], rows["tasks_archive"]) == (in_tasks, all_tasks - in_tasks), rows
    assert rows["results"] == all_tasks, "nothing is removed from `results`"
    return {"tables": found}


def sizes(warehouse: str, tasks: int) -> dict[str, dict[str, float]]:
    """Measure each table: what its newest version consists of, and what lies on the disk with what was replaced."""
    return {name: _size(table_uri(warehouse, name), tasks) for name in TABLES if _is_there(warehouse, name)}


def _is_there(warehouse: str, name: str) -> bool:
    return DeltaTable.is_deltatable(table_uri(warehouse, name))


def _size(uri: str, tasks: int) -> dict[str, float]:
    table = DeltaTable(uri)
    files = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    data_bytes = sum(file["size_bytes"] for file in files)
    log_bytes = sum(file.stat().st_size for file in Path(uri, "_delta_log").rglob("*") if file.is_file())
    on_disk = sum(file.stat().st_size for file in Path(uri).rglob("*") if file.is_file())
    return {
        "rows": sum(file["num_records"] for file in files),
        "files": len(files),
        "bytes_per_task": round(data_bytes / tasks, 1),
        "mb": round(data_bytes / 1e6, 2),
        "log_mb": round(log_bytes / 1e6, 2),
        "replaced_mb": round((on_disk - log_bytes - data_bytes) / 1e6, 2),
        "versions": table.version(),
    }


def _commands(warehouse: str, parameters: Parameters) -> dict[str, Any]:
    """Time the commands as somebody types them."""
    one = f"train-{(parameters.tasks - parameters.array) // 2:06d}"
    lines = {
        "results TASK": ["results", one],
        "results ARRAY": ["results", ARRAY],
        "results ARRAY --json": ["results", ARRAY, "--json"],
        "tasks": ["tasks"],
        "tasks --array": ["tasks", "--array", ARRAY, "--state", "succeeded"],
        "tasks --name": ["tasks", "--name", "train-00001*"],
        "wait TASK": ["wait", one],
        "account": ["account"],
        "sql best of all": [
            "sql",
            "select task_id, result from results where ends and region is not null order by ended_at desc limit 1",
        ],
    }
    return {name: _timed(line, warehouse, parameters.looks) for name, line in lines.items()}


def _timed(line: list[str], warehouse: str, looks: int) -> Mapping[str, float]:
    wall, cpu = [], []
    for _ in range(looks):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-m", "thalweg", *line, "--warehouse", warehouse]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall.append(time.perf_counter() - began)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"wall_s": round(median(wall), 2), "processor_s": round(median(cpu), 2)}


def agent_disk(runs: Path, parameters: Parameters, retention: RunRetention) -> dict[str, float]:
    """Let an agent's runs end, a minute's worth between two sweeps, and see what lies on its disk at most."""
    folders = RunFolders(runs)
    most_folders, most_bytes, slowest_s, made = 0, 0, 0.0, 0
    while made < parameters.agent_runs:
        for number in range(made, min(made + parameters.runs_per_minute, parameters.agent_runs)):
            _end_run(runs / f"train-{number:06d}-1", number, parameters.result_bytes)
        made = min(made + parameters.runs_per_minute, parameters.agent_runs)
        most_folders = max(most_folders, _count(runs))
        began = time.perf_counter()
        folders.sweep(retention, lambda: ())
        slowest_s = max(slowest_s, time.perf_counter() - began)
        kept = _count(runs)
        assert kept <= retention.runs, f"{kept} folders are kept, allowed are {retention.runs}"
        most_bytes = max(most_bytes, sum(f.stat().st_blocks * 512 for f in runs.rglob("*") if f.is_file()))
    assert _count(runs) == min(retention.runs, parameters.agent_runs)
    return {
        "runs": parameters.agent_runs,
        "most_folders": most_folders,
        "kept_folders": _count(runs),
        "kept_mb": round(most_bytes / 1e6, 1),
        "slowest_sweep_s": round(slowest_s, 2),
    }


def _count(runs: Path) -> int:
    return sum(1 for entry in os.scandir(runs) if entry.is_dir()) if runs.is_dir() else 0


def _end_run(folder: Path, number: int, size_bytes: int) -> None:
    """Leave what the process runner leaves of a run."""
    (folder / "artefacts").mkdir(parents=True)
    (folder / "output.log").write_text(f"epoch 1 loss {1 / (number + 1)}\n" * 20)
    (folder / "result.json").write_text("{" + '"x": 1'.ljust(size_bytes) + "}")
