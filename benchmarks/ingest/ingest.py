"""`bench ingest`: how fresh the history is at a steady rate, and how much a backlog takes beside a bare Spark query.

The broker, the load, the job and the reader are processes of their own on this machine. Freshness is taken per sample,
from the load's clock before it sends to the moment the reader sees the commit that holds the sample.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import psutil

from thalweg.conf.settings import KafkaSettings
from thalweg.stack.broker import Broker
from thalweg.stack.machine import describe
from thalweg.streams.broker.admin import ensure_topics

REGIONS: Final = (
    "aws:us-east-1",
    "aws:eu-central-1",
    "gcp:us-central1-a",
    "gcp:asia-southeast1-a",
    "azure:westeurope",
    "azure:koreacentral",
)
PREFIX: Final = "bench"
# The p99 of a tenth of a minute shows a saw-tooth that the p99 of the whole run would average away.
WINDOW_S: Final = 10


def ingest(
    *,
    rate: float = 50_000,
    seconds: float = 60,
    warm_up_s: float = 20,
    samples_per_record: int = 50,
    record_bytes: int = 0,
    nodes: int = 12_000,
    peak_samples: int = 4_000_000,
    settings: str = "",
) -> dict[str, Any]:
    """Measure both.

    Args:
        rate: samples a second; 0 leaves the steady run out.
        seconds: length of the steady run that is measured.
        warm_up_s: how much longer it runs before that, so that the JVM has compiled what it runs.
        samples_per_record: 1 is a plain application, 50 an agent.
        record_bytes: shorter records are padded to this length.
        nodes: distinct nodes, over six regions.
        peak_samples: size of the backlog; 0 leaves the peak run out.
        settings: `group.field=value` items for the job, separated by commas.
    """
    overrides = [item for item in settings.split(",") if item]
    document: dict[str, Any] = {
        "name": "ingest",
        "machine": describe(),
        "parameters": {
            "rate_samples_per_s": rate,
            "seconds": seconds,
            "warm_up_s": warm_up_s,
            "samples_per_record": samples_per_record,
            "record_bytes": record_bytes,
            "nodes": nodes,
            "regions": len(REGIONS),
            "peak_samples": peak_samples,
            "settings": overrides,
        },
    }
    with tempfile.TemporaryDirectory(prefix="thalweg-bench-") as folder:
        with Broker(Path(folder) / "broker") as broker:
            kafka = KafkaSettings(bootstrap_servers=broker.bootstrap, topic_prefix=PREFIX)
            ensure_topics(kafka, REGIONS)
            if rate:
                load = _Load(kafka, nodes, rate, warm_up_s + seconds, samples_per_record, record_bytes)
                document["steady"] = _steady(Path(folder) / "steady", load, warm_up_s, broker.pid, overrides)
            if peak_samples:
                backlog = KafkaSettings(bootstrap_servers=broker.bootstrap, topic_prefix=f"{PREFIX}-backlog")
                ensure_topics(backlog, REGIONS)
                # As fast as it goes: nobody reads meanwhile.
                load = _Load(backlog, nodes, 1e7, peak_samples / 1e7, samples_per_record, record_bytes)
                document["peak"] = _peak(Path(folder) / "peak", load, overrides)
        return document


class _Load:
    """The load's command line."""

    def __init__(
        self, kafka: KafkaSettings, nodes: int, rate: float, seconds: float, samples_per_record: int, record_bytes: int
    ) -> None:
        self.kafka = kafka
        self.rate = rate
        self.seconds = seconds
        self.argv = [
            *(sys.executable, "-W", "ignore", "-m", "thalweg.benchmarks.ingest.load"),
            *("--bootstrap", kafka.bootstrap_servers, "--prefix", kafka.topic_prefix),
            *(argument for region in REGIONS for argument in ("--region", region)),
            *("--nodes", str(nodes), "--rate", str(rate), "--seconds", str(seconds)),
            *("--samples-per-record", str(samples_per_record), "--record-bytes", str(record_bytes)),
        ]


def _steady(folder: Path, load: _Load, warm_up_s: float, broker_pid: int, overrides: Sequence[str]) -> dict[str, Any]:
    folder.mkdir()
    table = folder / "warehouse" / "telemetry"
    expected = int(load.rate * load.seconds)
    with _job(folder, load.kafka, overrides) as job:
        _wait((table / "_delta_log").is_dir, job, 120)
        watcher = _Processor({"job": job.pid, "broker": broker_pid})
        reader = _python(
            "thalweg.benchmarks.ingest.freshness", "--table", str(table), "--seconds", str(load.seconds + 60),
            "--samples", str(expected - 2 * 10_000),
        )  # fmt: skip
        sender = subprocess.Popen(load.argv, stdout=subprocess.PIPE, text=True)
        sent = json.loads(sender.communicate(timeout=load.seconds + 120)[0])
        seen = json.loads(reader.communicate(timeout=load.seconds + 120)[0])
        cpu_s = watcher.seconds()
        files = _files(folder / "warehouse")
    report = _freshness(seen, warm_up_s)
    return {
        **report,
        "sent_samples": sent["samples"],
        "seen_samples": seen["samples"],
        "mean_record_bytes": sent["mean_record_bytes"],
        "cpu_share": {
            "load": round(sent["cpu_seconds"] / load.seconds, 3),
            "reader": round(seen["cpu_seconds"] / load.seconds, 3),
            **{name: round(seconds / load.seconds, 3) for name, seconds in cpu_s.items()},
        },
        "files": files,
    }


def _peak(folder: Path, load: _Load, overrides: Sequence[str]) -> dict[str, Any]:
    folder.mkdir()
    sent = json.loads(subprocess.run(load.argv, stdout=subprocess.PIPE, text=True, check=True).stdout)
    items = [*_settings(folder, load.kafka), *overrides]
    arguments = [argument for item in items for argument in ("--set", item)]
    measuring = _python("thalweg.benchmarks.ingest.backlog", "--folder", str(folder), *arguments)
    taken = json.loads(measuring.communicate()[0])
    if taken["rows"] != sent["samples"]:
        raise RuntimeError(f"{sent['samples']} samples were sent and {taken['rows']} taken in")
    megabytes = sent["records"] * sent["mean_record_bytes"] / 1e6
    return {
        "samples": sent["samples"],
        "records": sent["records"],
        "ingest_samples_per_s": round(sent["samples"] / taken["ingest_second_s"]),
        "bare_read_samples_per_s": round(sent["samples"] / taken["bare_second_s"]),
        "ingest_to_bare_ratio": round(taken["bare_second_s"] / taken["ingest_second_s"], 3),
        "ingest_mb_per_s": round(megabytes / taken["ingest_second_s"], 1),
        "seconds": {name: round(value, 2) for name, value in taken.items() if name.endswith("_s")},
    }


def _settings(folder: Path, kafka: KafkaSettings) -> list[str]:
    return [
        f"kafka.bootstrap_servers={kafka.bootstrap_servers}",
        f"kafka.topic_prefix={kafka.topic_prefix}",
        f"warehouse.path={folder / 'warehouse'}",
        f"spark.checkpoints={folder / 'checkpoints'}",
    ]


def _freshness(seen: Mapping[str, Any], warm_up_s: float) -> dict[str, Any]:
    """Figures of the commits after the warm-up."""
    first = min(moment for moment, _, samples in seen["commits"] if samples) / 1000 + warm_up_s
    measured = [commit for commit in seen["commits"] if commit[0] / 1000 >= first]
    by_second = {int(second): counts for second, counts in seen["ages_by_second"].items() if int(second) >= first}
    total = _histogram(list(by_second.values()))
    windows = []
    for start in range(int(first) + 1, int(measured[-1][0] // 1000) - WINDOW_S + 1, WINDOW_S):
        window = [counts for second, counts in by_second.items() if start <= second < start + WINDOW_S]
        if window:
            windows.append(_percentile(_histogram(window), 0.99))
    length_s = (measured[-1][0] - measured[0][0]) / 1000
    p50, p99 = _percentile(total, 0.5), _percentile(total, 0.99)
    return {
        "freshness_mean_ms": round(float(total @ np.arange(len(total)) / total.sum()), 1),
        "freshness_p50_ms": p50,
        "freshness_p95_ms": _percentile(total, 0.95),
        "freshness_p99_ms": p99,
        "freshness_max_ms": len(total) - 1,
        "p99_to_p50_ratio": round(p99 / p50, 2),
        "worst_10_s_p99_ms": max(windows, default=p99),
        "rate_samples_per_s": round(int(total.sum()) / length_s),
        "commits_per_s": round((len(measured) - 1) / length_s, 3),
        "seconds": round(length_s, 1),
    }


def _histogram(parts: Sequence[Mapping[str, int]]) -> npt.NDArray[np.int64]:
    total = np.zeros(max(int(age) for part in parts for age in part) + 1, dtype=np.int64)
    for part in parts:
        for age, count in part.items():
            total[int(age)] += count
    return total


def _percentile(histogram: npt.NDArray[np.int64], share: float) -> int:
    return int(np.searchsorted(np.cumsum(histogram), share * histogram.sum()))


def _files(warehouse: Path) -> dict[str, Any]:
    """How many files each table keeps, data and log, and their size."""
    counted = {}
    for table in sorted(path for path in warehouse.iterdir() if path.is_dir()):
        files = [path for path in table.rglob("*") if path.is_file()]
        log = [path for path in files if "_delta_log" in path.parts]
        size = sum(path.stat().st_size for path in files)
        counted[table.name] = {"data": len(files) - len(log), "log": len(log), "megabytes": round(size / 1e6, 1)}
    return counted


class _Processor:
    """Processor time that processes and their children have taken since."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._before = {name: _cpu_s(pid) for name, pid in pids.items()}

    def seconds(self) -> dict[str, float]:
        return {name: _cpu_s(pid) - self._before[name] for name, pid in self._pids.items()}


def _cpu_s(pid: int) -> float:
    total = 0.0
    process = psutil.Process(pid)
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system
    return total


@contextlib.contextmanager
def _job(folder: Path, kafka: KafkaSettings, overrides: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run the job as an operator would, until the end of the block."""
    items = [*_settings(folder, kafka), *overrides]
    arguments = [argument for item in items for argument in ("--set", item)]
    with (folder / "observe.log").open("w") as log:
        job = subprocess.Popen(
            [sys.executable, "-m", "thalweg.jobs.observe", *arguments],
            stderr=log,
            stdout=log,
            text=True,
        )
        try:
            yield job
        finally:
            job.terminate()
            try:
                job.wait(30)
            except subprocess.TimeoutExpired:
                job.kill()
                job.wait()


def _python(module: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", module, *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )


def _wait(ready: Any, job: subprocess.Popen[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if job.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the job was not ready after {seconds:.0f} s, exit code {job.poll()}")
        time.sleep(0.1)
