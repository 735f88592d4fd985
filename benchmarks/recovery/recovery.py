"""`bench recovery`: from kill -9 of the driver, or the silence of a region, to the next assignment, after a long past.

A ledger of many tasks is written, and its snapshot made as the product makes it. Then a real broker, the real place job
(`python -m thalweg.jobs.place`, as the product starts it) and a load of their own process each run on this machine.
A restart is measured from the exec of the new process to the first assignment that it decided and a region received.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psutil
import pyarrow as pa

from thalweg.benchmarks.recovery.history import GPUS_PER_NODE, write_history
from thalweg.conf.settings import KafkaSettings
from thalweg.stack import machine
from thalweg.stack.broker import Broker
from thalweg.streams.broker.admin import ensure_topics
from thalweg.sync.delta.contracts import LINKS, NODES, PRICES
from thalweg.sync.delta.store import append, open_or_create
from thalweg.sync.ledger.snapshot import FILE_NAME

REGIONS: Final = tuple(f"region-{index}" for index in range(8))
PREFIX: Final = "bench-recovery"
FOREVER: Final = "THALWEG_PLACE__NODE_TIMEOUT_MS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What is measured."""

    tasks: int = 1_000_000
    live: int = 100_000
    """Of the tasks; they run, one GPU each."""
    rate_per_s: int = 500
    restarts: int = 3
    serve_s: float = 20.0
    """Between two kills."""
    task_seconds: float = 2.0
    without: bool = True
    """Measure a restart that reads the whole ledger, too: minutes."""
    standby: bool = True
    """Measure a takeover by a warm standby."""
    region: bool = True
    """Let a region fall silent."""
    drivers: bool = True
    """Run broker and drivers; false leaves it at the ledger, its snapshot and the core (`restore`)."""
    timeout_s: float = 900.0
    past: str = ""
    """A folder in which ledger and snapshot are kept: made where it is empty, and used by later runs of the same sizes,
    which go on with a copy of it. Nothing keeps none."""


@dataclass(slots=True, kw_only=True)
class Driver:
    """A place job, its memory and its log."""

    process: "subprocess.Popen[bytes]"
    began_ms: int
    log: Path
    peak_mb: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    """Of the processor, by program, up to the last look."""

    def watch(self) -> None:
        """Note the most memory that its processes held, and what they took of the processor, by program."""
        try:
            tree = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
            for one in tree:
                name = "jvm" if "java" in one.name() else ("driver" if one.pid == self.process.pid else "snapshot")
                self.peak_mb[name] = max(self.peak_mb.get(name, 0.0), one.memory_info().rss / 1e6)
                self.cpu_s[name] = sum(one.cpu_times()[:2])
        except psutil.Error:
            return

    def kill(self) -> None:
        """End it and its JVM as a power cut would."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.Error:
            children = []
        self.process.send_signal(signal.SIGKILL)
        for child in children:
            with suppress(psutil.Error):
                child.kill()
        self.process.wait()
        psutil.wait_procs(children, timeout=10)


def measure(parameters: Parameters) -> dict[str, Any]:
    """Run everything and return the figures."""
    with tempfile.TemporaryDirectory(prefix="bench-recovery-") as folder:
        base = Path(folder)
        warehouse = base / "warehouse"
        figures: dict[str, Any] = _past(warehouse, parameters)
        if parameters.drivers:
            figures |= _with_drivers(base, parameters)
        elif "snapshot" not in figures:
            figures["snapshot"] = make_snapshot(warehouse)
        figures["core"] = _restore(warehouse)
    return {
        "bench": "recovery",
        "machine": machine.describe(),
        "parameters": {name: getattr(parameters, name) for name in Parameters.__slots__},
        **figures,
    }


def _past(warehouse: Path, parameters: Parameters) -> dict[str, Any]:
    """Write a ledger and the world around it, or take those that are kept, with their snapshot."""
    if parameters.past and (kept := Path(parameters.past) / "warehouse").exists():
        shutil.copytree(kept, warehouse)
        return {"ledger": {"kept": True}}
    warehouse.mkdir()
    began = time.perf_counter()
    now_ms = int(time.time() * 1000)
    rows = write_history(str(warehouse), parameters.tasks, parameters.live, REGIONS, now_ms)
    _write_world(str(warehouse), parameters.live)
    figures: dict[str, Any] = {"ledger": {"rows": rows, "written_s": round(time.perf_counter() - began, 1)}}
    if parameters.past:
        figures["snapshot"] = make_snapshot(warehouse)
        shutil.copytree(warehouse, Path(parameters.past) / "warehouse")
    return figures


def _with_drivers(base: Path, parameters: Parameters) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with Broker(base / "broker") as broker, _Bench(base, broker.bootstrap, parameters) as bench:
        if parameters.without and not (base / "warehouse" / FILE_NAME).exists():
            figures["without_snapshot"] = bench.restart(warmed=False)
            bench.end()
        if not (base / "warehouse" / FILE_NAME).exists():
            figures["snapshot"] = make_snapshot(base / "warehouse")
        figures["with_snapshot"] = [bench.restart(warmed=number > 0) for number in range(parameters.restarts + 1)]
        if parameters.standby:
            figures["standby"] = [bench.take_over() for _ in range(parameters.restarts)]
        if parameters.region:
            figures["region"] = bench.lose_region(REGIONS[0])
    return figures


def _restore(warehouse: Path) -> dict[str, Any]:
    """What the core costs (`benchmarks.recovery.restore`)."""
    command = [sys.executable, "-m", "thalweg.benchmarks.recovery.restore", str(warehouse)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def make_snapshot(warehouse: Path, *, again: bool = True) -> dict[str, Any]:
    """Make one as the product does; from the whole ledger, then from the last one."""
    made = {}
    for name in ("whole", "again") if again else ("whole",):
        began = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "thalweg.jobs.snapshot", "--set", f"warehouse.path={warehouse}"],
            stderr=subprocess.DEVNULL,
        ) as process:
            peak = 0.0
            while process.poll() is None:
                try:
                    peak = max(peak, psutil.Process(process.pid).memory_info().rss / 1e6)
                except psutil.Error:
                    break
                time.sleep(0.1)
        made[name] = {"seconds": round(time.perf_counter() - began, 1), "peak_mb": round(peak)}
    return {**made, "mb": round((warehouse / FILE_NAME).stat().st_size / 1e6, 1)}


class _Bench:
    """A load that goes on, and drivers that come and go."""

    def __init__(self, base: Path, bootstrap: str, parameters: Parameters) -> None:
        self._base = base
        self._parameters = parameters
        self._seen = base / "assignments.csv"
        self._drivers: list[Driver] = []
        self._stop = threading.Event()
        self._environment = os.environ | {
            "THALWEG_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
            "THALWEG_KAFKA__TOPIC_PREFIX": PREFIX,
            "THALWEG_WAREHOUSE__PATH": str(base / "warehouse"),
            "THALWEG_SPARK__CHECKPOINTS": str(base / "checkpoints"),
            # Nobody sends samples here: what the tables say of nodes stays.
            FOREVER: str(86_400_000),
        }
        kafka = KafkaSettings(bootstrap_servers=bootstrap, topic_prefix=PREFIX)
        ensure_topics(kafka, [*REGIONS, "control"])
        wanted = {
            "bootstrap": bootstrap,
            "prefix": PREFIX,
            "regions": list(REGIONS),
            "rate_per_s": parameters.rate_per_s,
            "task_seconds": parameters.task_seconds,
            "out": str(self._seen),
        }
        self._load = subprocess.Popen(
            [sys.executable, "-m", "thalweg.benchmarks.recovery.recovery_load", json.dumps(wanted)],
            stdin=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "_Bench":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.end()
        assert self._load.stdin is not None
        self._load.stdin.close()
        self._load.wait(30)

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            for driver in tuple(self._drivers):
                driver.watch()

    def end(self) -> None:
        """Kill every driver."""
        for driver in self._drivers:
            driver.kill()
        self._drivers.clear()

    def restart(self, *, warmed: bool) -> dict[str, Any]:
        """Kill the driver, if there is one, start another and wait for its first assignment."""
        if self._drivers:
            time.sleep(self._parameters.serve_s)
        self.end()
        driver = self._start()
        first_ms = self._first_decided_after(driver.began_ms, driver)
        driver.watch()
        waited_s, spent = round((first_ms - driver.began_ms) / 1000, 2), _rounded(driver.cpu_s)
        return {"first_assignment_s": waited_s, "cpu_s": spent, "warmed": warmed, **_told(driver)}

    def take_over(self) -> dict[str, Any]:
        """Let a standby be ready, kill the active driver and wait for the first assignment of the other."""
        while len(self._drivers) < 2:
            self._start(standby=True)
        self._until(lambda: any(said(driver.log, "standing by") for driver in self._drivers[1:]), "a standby")
        time.sleep(self._parameters.serve_s)
        active, other = self._drivers[0], self._drivers[1]
        killed_ms = int(time.time() * 1000)
        active.kill()
        self._drivers.remove(active)
        first_ms = self._first_decided_after(killed_ms, other)
        return {"first_assignment_s": round((first_ms - killed_ms) / 1000, 2), **_told(other)}

    def lose_region(self, region: str) -> dict[str, Any]:
        """Let a region fall silent, and wait until what ran there is placed elsewhere."""
        self._say(f"mute {region}")
        driver = self._drivers[0]
        self._until(lambda: said(driver.log, "region lost"), "the region's loss")
        lost_ms = _at_ms(said(driver.log, "region lost"))
        held = sum(1 for index in range(self._parameters.live) if index % len(REGIONS) == REGIONS.index(region))
        moved: dict[str, int] = {}

        def all_moved() -> bool:
            for received_ms, _, _, epoch, task_id in self._assignments():
                if int(epoch) > 1 and task_id.startswith("past-"):
                    moved.setdefault(task_id, int(received_ms))
            return len(moved) >= held

        self._until(all_moved, "the tasks' new places")
        spread: dict[str, int] = {}
        for _, _, where, epoch, task_id in self._assignments():
            if int(epoch) > 1 and task_id.startswith("past-"):
                spread[where] = spread.get(where, 0) + 1
        waits = sorted(moved.values())
        return {
            "tasks": held,
            "half_s": round((waits[len(waits) // 2] - lost_ms) / 1000, 2),
            "all_s": round((waits[-1] - lost_ms) / 1000, 2),
            "spread": dict(sorted(spread.items())),
        }

    # Within

    def _start(self, *, standby: bool = False) -> Driver:
        log = self._base / f"place-{time.monotonic_ns()}.log"
        environment = self._environment | ({"THALWEG_PLACE__STANDBY": "true"} if standby else {})
        began_ms = int(time.time() * 1000)
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "thalweg.jobs.place"], env=environment, stdout=file, stderr=file
            )
        driver = Driver(process=process, began_ms=began_ms, log=log)
        self._drivers.append(driver)
        return driver

    def _say(self, line: str) -> None:
        assert self._load.stdin is not None
        self._load.stdin.write(f"{line}\n")
        self._load.stdin.flush()

    def _assignments(self) -> Iterator[Sequence[str]]:
        """Received (ms), decided (ms), region, epoch, task."""
        if self._seen.exists():
            for line in self._seen.read_text(encoding="utf-8").splitlines():
                fields = line.split(",", 4)
                if len(fields) == 5:
                    yield fields

    def _first_decided_after(self, moment_ms: int, driver: Driver) -> int:
        found: list[int] = []

        def decided() -> bool:
            if driver.process.poll() is not None:
                raise RuntimeError(f"the driver ended; its log ends with:\n{driver.log.read_text()[-3000:]}")
            found.extend(int(row[0]) for row in self._last_assignments() if int(row[1]) > moment_ms)
            return bool(found)

        self._until(decided, "an assignment")
        return min(found)

    def _last_assignments(self) -> list[list[str]]:
        if not self._seen.exists():
            return []
        with self._seen.open("rb") as file:
            file.seek(max(self._seen.stat().st_size - 2_000_000, 0))
            lines = file.read().decode().splitlines()[1:]
        return [fields for line in lines if len(fields := line.split(",", 4)) == 5]

    def _until(self, met: Any, what: str) -> None:
        limit = time.monotonic() + self._parameters.timeout_s
        while not met():
            if time.monotonic() > limit:
                raise RuntimeError(f"{what}: not within {self._parameters.timeout_s:.0f} s")
            time.sleep(0.02)


def _told(driver: Driver) -> dict[str, Any]:
    """What a driver's log says of its start, and the most memory it took."""
    rebuilt = said(driver.log, "world rebuilt")
    names = ("tasks", "rows", "rows_read", "seconds")
    lines = {words: said(driver.log, words) for words in ("world rebuilt", '"started"')}
    return {
        "said_after_s": {
            words.strip('"'): round((_at_ms(line) - driver.began_ms) / 1000, 2) for words, line in lines.items() if line
        },
        "rebuilt": {name: rebuilt[name] for name in names if name in rebuilt},
        "peak_mb": {name: round(mb) for name, mb in sorted(driver.peak_mb.items())},
    }


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in sorted(figures.items())}


def said(log: Path, message: str) -> dict[str, Any]:
    """The last line of a log with this message; empty where there is none."""
    found: dict[str, Any] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if message in line and line.startswith("{"):
            found = json.loads(line)
    return found


def _at_ms(line: dict[str, Any]) -> int:
    return int(datetime.fromisoformat(line["at"]).timestamp() * 1000)


def _write_world(warehouse: str, live: int) -> None:
    """Nodes for what lives, and half as many again for what comes."""
    now = int(time.time() * 1e6)
    stamp = {"observed_at": now, "stamp_ms": now // 1_000, "stamp_counter": 0}
    each = int(live * 1.5 / GPUS_PER_NODE / len(REGIONS)) + 50
    rows = [
        {
            "region": region,
            "node_id": f"node-{index:06d}",
            "gpu_model": "A100",
            "spot": False,
            "gpus": GPUS_PER_NODE,
            "cpus": 96.0,
            "memory_gb": 512.0,
            "state": "ready",
            "stamp_region": region,
            **stamp,
        }
        for region in REGIONS
        for index in range(each)
    ]
    append(open_or_create(NODES, warehouse), pa.Table.from_pylist(rows, schema=NODES.schema))
    links = [
        {"region": a, "dst_region": b, "rtt_ms": 20.0 + 7 * abs(i - j), "gbps": 5.0, "usd_per_gb": 0.05, **stamp}
        for i, a in enumerate(REGIONS)
        for j, b in enumerate(REGIONS)
        if a != b
    ]
    append(open_or_create(LINKS, warehouse), pa.Table.from_pylist(links, schema=LINKS.schema))
    prices = [
        {"region": region, "gpu_model": "A100", "spot": False, "usd_per_gpu_hour": 2.0 + 0.1 * index, **stamp}
        for index, region in enumerate(REGIONS)
    ]
    append(open_or_create(PRICES, warehouse), pa.Table.from_pylist(prices, schema=PRICES.schema))
