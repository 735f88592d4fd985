"""`bench latency`: from the producer's clock before send to the regional consumer's clock after receipt.

In one run, at one rate: the bare Spark loop (`benchmarks.latency.bare_loop`), then the whole path (`jobs.place`: ledger
first, then the event). Broker, application, and load each are processes of their own; all share this machine's cores.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa

from thalweg.benchmarks.latency.bare_loop import REGION as BARE_REGION
from thalweg.conf.settings import KafkaSettings
from thalweg.stack import machine
from thalweg.stack.broker import Broker
from thalweg.streams.broker.admin import ensure_topics
from thalweg.sync.delta.contracts import LINKS, NODES, PLANS, PRICES
from thalweg.sync.delta.store import append, open_or_create

REGIONS: Final = tuple(f"region-{index}" for index in range(8))
GPUS_PER_NODE: Final = 8
LARGER: Final[dict[str, dict[str, Any]]] = {"pending-100000": {"pending": 100_000}, "nodes-10000": {"nodes": 10_000}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What is measured."""

    rate_per_s: int = 1_000
    seconds: float = 60.0
    warm_up_s: float = 40.0
    """Compilation, caches and the first checkpoints: what a service that runs for days does not show."""
    nodes: int = 800
    pending: int = 0
    """Tasks that wait all the while for a GPU model that no pool has room for."""
    task_seconds: float = 2.0
    """After this long the region reports a task as succeeded, which frees its GPU."""
    flat: bool = False
    """Measure the whole path again with 100,000 tasks pending, with 10,000 nodes known, and once more as it was."""


def measure(parameters: Parameters) -> dict[str, Any]:
    """Run both loops one after the other and return the figures."""
    with tempfile.TemporaryDirectory(prefix="bench-latency-") as folder:
        base = Path(folder)
        with Broker(base / "broker") as broker:
            bare = _phase("bare", "thalweg.benchmarks.latency.bare_loop", broker.bootstrap, base, parameters)
            whole = _phase("whole", "thalweg.jobs.place", broker.bootstrap, base, parameters)
            larger, again = {}, whole
            if parameters.flat:
                larger = {
                    name: _phase(name, "thalweg.jobs.place", broker.bootstrap, base, replace(parameters, **more))
                    for name, more in LARGER.items()
                }
                # The machine's speed drifts over minutes: what lies between two equal runs is held against both.
                again = _phase("whole-again", "thalweg.jobs.place", broker.bootstrap, base, parameters)
    usual = {name: (whole[name] + again[name]) / 2 for name in _COMPARED}
    return {
        "bench": "latency",
        "machine": machine.describe(),
        "parameters": {name: getattr(parameters, name) for name in Parameters.__slots__},
        "bare": bare,
        "whole": whole,
        "ratio": ratio(whole, bare),
        "larger": {name: figures | {"ratio_to_whole": ratio(figures, usual)} for name, figures in larger.items()},
        **({"whole_again": again} if parameters.flat else {}),
    }


STEPS: Final = ("read", "plan", "commit", "publish")
"""Of a batch, as `plans` has them."""
_COMPARED: Final = ("p50_ms", "p95_ms", "p99_ms", "max_ms")


def ratio(figures: dict[str, Any], reference: dict[str, Any]) -> dict[str, float]:
    """Say how many times as long as the reference each percentile is."""
    return {name: round(figures[name] / reference[name], 3) for name in _COMPARED}


def _phase(name: str, module: str, bootstrap: str, base: Path, parameters: Parameters) -> dict[str, Any]:
    prefix = f"bench-{name}"
    warehouse = base / name / "warehouse"
    warehouse.mkdir(parents=True)
    kafka = KafkaSettings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    regions = [*REGIONS, BARE_REGION, "control"]
    ensure_topics(kafka, regions)
    write_world(str(warehouse), parameters.nodes)
    environment = os.environ | {
        "THALWEG_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "THALWEG_KAFKA__TOPIC_PREFIX": prefix,
        "THALWEG_WAREHOUSE__PATH": str(warehouse),
        "THALWEG_SPARK__CHECKPOINTS": str(base / name / "checkpoints"),
    }
    with (base / name / "log").open("wb") as log, application(module, environment, log) as process:
        load = while_it_lives(
            process,
            load_command(kafka, regions, parameters),
            timeout_s=parameters.seconds + parameters.warm_up_s + 180,
        )
    if load is None:
        raise RuntimeError(f"phase {name} failed; its log ends with:\n{(base / name / 'log').read_text()[-3000:]}")
    figures: dict[str, Any] = json.loads(load)
    if name != "bare":
        figures["steps_ms"] = steps(str(warehouse))
    return figures


def load_command(kafka: KafkaSettings, regions: Sequence[str], parameters: Parameters) -> list[str]:
    """Return what puts the load on, as a process; it prints the figures."""
    wanted = {
        "bootstrap": kafka.bootstrap_servers,
        "prefix": kafka.topic_prefix,
        "regions": regions,
        "rate_per_s": parameters.rate_per_s,
        "seconds": parameters.seconds,
        "warm_up_s": parameters.warm_up_s,
        "pending": parameters.pending,
        "task_seconds": parameters.task_seconds,
        "patience_s": 120.0,
    }
    return [sys.executable, "-m", "thalweg.benchmarks.latency.latency_load", json.dumps(wanted)]


def while_it_lives(process: "subprocess.Popen[bytes]", command: list[str], timeout_s: float) -> bytes | None:
    """Run the load and return what it prints; None where it or the application ends badly."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as load:
        limit = time.monotonic() + timeout_s
        while load.poll() is None:
            if process.poll() is not None or time.monotonic() > limit:
                load.kill()
                return None
            time.sleep(0.2)
        printed = load.stdout.read() if load.stdout is not None else b""
        return printed if load.returncode == 0 else None


@contextmanager
def application(module: str, environment: dict[str, str], log: IO[bytes]) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a module for a while, and end it in order."""
    process = subprocess.Popen([sys.executable, "-m", module], env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def write_world(warehouse: str, nodes: int) -> None:
    """Write nodes, links and prices of the eight regions."""
    now = int(time.time() * 1e6)
    stamp = {"observed_at": now, "stamp_ms": now // 1_000, "stamp_counter": 0}
    rows = [
        {
            "region": REGIONS[index % len(REGIONS)],
            "node_id": f"node-{index:06d}",
            "gpu_model": "A100",
            "spot": False,
            "gpus": GPUS_PER_NODE,
            "cpus": 96.0,
            "memory_gb": 512.0,
            "state": "ready",
            "stamp_region": REGIONS[index % len(REGIONS)],
            **stamp,
        }
        for index in range(nodes)
    ]
    # A fleet of another model without room: what waits for it stays pending.
    rows.append(rows[0] | {"node_id": "full", "gpu_model": "H100", "gpus": 1})
    append(open_or_create(NODES, warehouse), pa.Table.from_pylist(rows, schema=NODES.schema))
    links = [
        {"region": a, "dst_region": b, "rtt_ms": 20.0 + 7 * abs(i - j), "gbps": 5.0, "usd_per_gb": 0.05, **stamp}
        for i, a in enumerate(REGIONS)
        for j, b in enumerate(REGIONS)
        if a != b
    ]
    append(open_or_create(LINKS, warehouse), pa.Table.from_pylist(links, schema=LINKS.schema))
    prices = [
        {"region": region, "gpu_model": model, "spot": False, "usd_per_gpu_hour": 2.0 + 0.1 * index, **stamp}
        for index, region in enumerate(REGIONS)
        for model in ("A100", "H100")
    ]
    append(open_or_create(PRICES, warehouse), pa.Table.from_pylist(prices, schema=PRICES.schema))


def steps(warehouse: str) -> dict[str, float]:
    """Return the median of each step of the plans in a warehouse, in milliseconds."""
    plans = open_or_create(PLANS, warehouse).to_pyarrow_table()
    return {name: round(float(np.median(plans.column(f"{name}_ms").to_numpy())), 2) for name in STEPS if plans.num_rows}
