"""`bench soak`: very many batches of the place job while weeks pass: does anything grow that should not?

A life of the place job without Spark and broker (`soak_driver`) in a steady state: as many tasks end as begin. Its
clock is moved five minutes for each batch (`passing_time`), so files and log entries grow old, tasks are archived and
snapshots made, again and again. What a batch takes is told in milliseconds of the processor: a crowded machine delays
it, and makes it a little dearer, which `yardstick_ms`, the same small work done again with each sample, shows.
"""

import gc
import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import psutil
import pyarrow as pa
from deltalake import DeltaTable
from rich.console import Console

from thalweg.benchmarks.soak.passing_time import PassingTime
from thalweg.benchmarks.soak.soak_driver import SoakDriver
from thalweg.benchmarks.soak.steady_regions import SteadyRegions
from thalweg.stack import machine

MB: Final = 1e6
MOST_DRIFT_PERCENT: Final = 10.0
BOUND: Final = 1.25
"""A count is bounded when it is nowhere in the last half above so many times what it was at most in the first: what
grows steadily comes to 1.8 times."""
SPARE: Final = 8
"""Files that do not count: a compaction comes a little earlier or later."""
COUNTED: Final = ("files", "files_on_disk", "log_entries", "checkpoints")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceSoak:
    """What is measured."""

    batches: int = 20_000
    requests: int = 20
    """In each batch; as many tasks end."""
    runs_batches: int = 40
    """How many batches a task runs."""
    seconds_per_batch: float = 300.0
    """So much time passes."""
    upkeep_every: int = 50
    """Batches between two rounds of upkeep: what live comes every minute."""
    snapshot_every_rows: int = 100_000
    sample_every: int = 200
    warm_up: float = 0.1
    """Share of the batches that is not judged: by then what is kept for a week is as much as it will be; what is kept
    for 30 days (`plans`) within the first half of the rest."""


@dataclass(slots=True, kw_only=True)
class _Window:
    """What the batches between two samples took, in milliseconds of the processor."""

    batches_ms: list[float] = field(default_factory=list)
    beside_ms: float = 0.0
    began: float = field(default_factory=time.perf_counter)


def measure(parameters: PlaceSoak) -> dict[str, Any]:
    """Take the batches, look now and then, and judge. Ctrl-C ends it early, and what was seen is told.

    Raises:
        ValueError: fewer batches than can be judged.
    """
    if parameters.batches < 20 * parameters.sample_every:
        raise ValueError(
            f"batches is {parameters.batches}: twenty samples, {20 * parameters.sample_every:,}, are judged"
        )
    samples: list[dict[str, Any]] = []
    cpu_ms: list[float] = []
    with tempfile.TemporaryDirectory(prefix="bench-soak-") as folder:
        warehouse = Path(folder, "warehouse")
        warehouse.mkdir()
        passing = PassingTime(round(parameters.batches * parameters.seconds_per_batch * 1_000))
        with passing.kept():
            regions = SteadyRegions(parameters.requests, parameters.runs_batches)
            driver = SoakDriver(
                warehouse=warehouse,
                regions=regions,
                time=passing,
                seconds_per_batch=parameters.seconds_per_batch,
                upkeep_every=parameters.upkeep_every,
                snapshot_every_rows=parameters.snapshot_every_rows,
            )
            interrupted = _run(driver, parameters, warehouse, samples, cpu_ms)
        ends, refused = regions.ends_told, regions.refused
    return {
        "bench": "soak",
        "machine": machine.describe(),
        "parameters": asdict(parameters),
        "interrupted": interrupted,
        "batches": len(cpu_ms),
        "days": round(len(cpu_ms) * parameters.seconds_per_batch / 86_400, 1),
        "tasks_ended": ends,
        "records_refused": refused,
        **judged(parameters, samples, cpu_ms),
        "samples": samples,
    }


def _run(
    driver: SoakDriver, parameters: PlaceSoak, warehouse: Path, samples: list[dict[str, Any]], cpu_ms: list[float]
) -> bool:
    """Take the batches; tell whether somebody ended it early."""
    console, window = Console(stderr=True), _Window()
    try:
        for number in range(1, parameters.batches + 1):
            driver.prepare()
            window.batches_ms.append(_timed_batch(driver))
            began = time.process_time()
            driver.look_after()
            window.beside_ms += (time.process_time() - began) * 1_000
            if number % parameters.sample_every == 0:
                samples.append(_sample(number, driver, window, warehouse))
                cpu_ms += window.batches_ms
                window = _Window()
                console.print(_in_words(samples[-1], parameters.batches), soft_wrap=True)
    except KeyboardInterrupt:
        console.print(f"ended early, after {len(cpu_ms):,} batches")
        return True
    finally:
        gc.enable()
    return False


def _timed_batch(driver: SoakDriver) -> float:
    """Take a batch, with Python's collector at rest as in the product; return its milliseconds of the processor."""
    gc.disable()
    began = time.process_time()
    driver.take()
    spent = time.process_time() - began
    gc.enable()
    return spent * 1_000


def _sample(number: int, driver: SoakDriver, window: _Window, warehouse: Path) -> dict[str, Any]:
    memory = psutil.Process().memory_info()
    count = len(window.batches_ms)
    return {
        "batch": number,
        "cpu_p50_ms": round(float(np.percentile(window.batches_ms, 50)), 2),
        "cpu_p95_ms": round(float(np.percentile(window.batches_ms, 95)), 2),
        "beside_ms_per_batch": round(window.beside_ms / count, 2),
        "wall_ms_per_batch": round((time.perf_counter() - window.began) * 1_000 / count, 2),
        "yardstick_ms": yardstick_ms(),
        "rss_mb": round(memory.rss / MB, 1),
        "arrow_mb": round(pa.total_allocated_bytes() / MB, 1),
        **driver.counts(),
        "snapshot_mb": round(_bytes(file for file in warehouse.iterdir() if file.is_file()) / MB, 2),
        "tables": {folder.name: _size(folder) for folder in sorted(warehouse.iterdir()) if folder.is_dir()},
    }


def _size(folder: Path) -> dict[str, float]:
    """Count what lies on the disk of a table, and what its newest version names."""
    log = [file for file in (folder / "_delta_log").iterdir() if file.is_file()]
    data = [file for file in folder.rglob("*.parquet") if "_delta_log" not in file.parts]
    return {
        "files": len(DeltaTable(str(folder)).file_uris()),
        "files_on_disk": len(data),
        "mb": round(_bytes(data) / MB, 2),
        "log_entries": sum(file.suffix == ".json" for file in log),
        "checkpoints": sum(file.suffix == ".parquet" for file in log),
        "log_mb": round(_bytes(log) / MB, 2),
    }


def _bytes(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def yardstick_ms() -> float:
    """Do the same small work a few times, as a batch is made of: JSON, objects, Arrow; return the middle one."""
    spent = []
    for _ in range(9):
        began = time.process_time()
        rows = [{"task_id": f"task-{number}", "epoch": number, "words": "w" * 40} for number in range(1_500)]
        back = [json.loads(text) for text in [json.dumps(row) for row in rows]]
        assert pa.Table.from_pylist(back).sort_by("task_id").num_rows == len(rows)
        spent.append((time.process_time() - began) * 1_000)
    return round(median(spent), 3)


def judged(parameters: PlaceSoak, samples: Sequence[Mapping[str, Any]], cpu_ms: Sequence[float]) -> dict[str, Any]:
    """Judge what was seen; without two tenths beyond the warm-up there is nothing to judge."""
    warm = round(len(cpu_ms) * parameters.warm_up)
    judged_ms = cpu_ms[warm:]
    settled = [one for one in samples if one["batch"] > warm]
    if len(settled) < 10:
        return {"ok": False, "why": ["too few samples"]}
    first_ms, last_ms = (_p95(part) for part in ends_of(judged_ms))
    drift = _percent(last_ms, first_ms)
    per_thousand = _slope(settled, lambda one: one["rss_mb"])
    unbounded = growing(settled)
    yardstick = _ends(settled, "yardstick_ms")
    beside = _percent(last_ms / yardstick["last_tenth"], first_ms / yardstick["first_tenth"])
    why = [f"p95 of a batch drifts by {drift} %"] if drift > MOST_DRIFT_PERCENT else []
    why += [f"{name} grows: {first:,.0f}, then {last:,.0f}" for name, (first, last) in unbounded.items()]
    return {
        "ok": not why,
        "why": why,
        "cpu_p95_drift_percent": drift,
        "cpu_p95_ms": {"first_tenth": first_ms, "last_tenth": last_ms},
        "yardstick_ms": yardstick,
        "cpu_p95_drift_beside_yardstick_percent": beside,
        "beside_ms_per_batch": _ends(settled, "beside_ms_per_batch"),
        "rss_mb": {"settled": settled[0]["rss_mb"], "last": settled[-1]["rss_mb"]},
        "rss_mb_per_1000_batches": per_thousand,
        "snapshot_mb_per_1000_batches": _slope(settled, lambda one: one["snapshot_mb"]),
        "bounded_within": BOUND,
    }


def ends_of(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """Give the first and the last tenth."""
    tenth = max(len(values) // 10, 1)
    return values[:tenth], values[-tenth:]


def _ends(samples: Sequence[Mapping[str, Any]], name: str) -> dict[str, float]:
    first, last = ends_of([one[name] for one in samples])
    return {"first_tenth": round(median(first), 2), "last_tenth": round(median(last), 2)}


def _p95(values: Sequence[float]) -> float:
    return round(float(np.percentile(values, 95)), 2)


def _percent(last: float, first: float) -> float:
    return round((last / first - 1) * 100, 1)


def _slope(samples: Sequence[Mapping[str, Any]], of: Any) -> float:
    """Fit a line; give its rise over 1,000 batches."""
    line = np.polyfit([one["batch"] for one in samples], [of(one) for one in samples], 1)
    return round(float(line[0]) * 1_000, 3)


def growing(samples: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Name the counts that are not bounded, with the most of the first and of the last half."""
    half = len(samples) // 2
    found = {}
    for table in samples[-1]["tables"]:
        for name in COUNTED:
            first, last = (
                max((one["tables"].get(table, {}).get(name, 0) for one in part), default=0)
                for part in (samples[:half], samples[half:])
            )
            if last > BOUND * first + SPARE:
                found[f"{table}.{name}"] = (first, last)
    return found


def _in_words(sample: Mapping[str, Any], batches: int) -> str:
    files, entries = (sum(one[name] for one in sample["tables"].values()) for name in ("files_on_disk", "log_entries"))
    return (
        f"{sample['batch']:,} of {batches:,} batches: p50 {sample['cpu_p50_ms']} ms, p95 {sample['cpu_p95_ms']} ms; "
        f"beside {sample['beside_ms_per_batch']} ms; {sample['rss_mb']:,.0f} MB; {files:,} files, {entries:,} entries"
    )
