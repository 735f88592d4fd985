"""`bench live`: the real place job with its ledger, at the size of the largest fleets that are reported of.

A ledger is written in which as many tasks run and wait as is asked for, and its snapshot and tables made as the product
makes them.
Then a real broker, the real job (`python -m thalweg.jobs.place`) and a load in a process of its own share this machine.
What is measured is the load's: from the producer's clock before send to a region's after receipt; every task that is
placed is reported as succeeded, so there are as many reports as requests. Karmada's report at 100 clusters of 5,000
nodes each (on 64 cores) is the size that is meant.
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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from thalweg.benchmarks.latency.latency import STEPS, while_it_lives
from thalweg.benchmarks.recovery.history import write_history
from thalweg.benchmarks.recovery.recovery import Driver, make_snapshot, said
from thalweg.conf.settings import KafkaSettings
from thalweg.stack import machine
from thalweg.stack.broker import Broker
from thalweg.streams.broker.admin import ensure_topics
from thalweg.sync.delta.contracts import LINKS, NODES, PLANS, PRICES
from thalweg.sync.delta.store import append, open_or_create

PREFIX: Final = "bench-live"
GPUS_PER_NODE: Final = 16
END_S: Final = 60.0
"""The job's last steps may take this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What is measured."""

    regions: int = 100
    nodes: int = 100_000
    """Of sixteen GPUs, in all regions together."""
    running: int = 1_000_000
    """One GPU each."""
    waiting: int = 1_000_000
    """For a GPU model of which there are few, in some hundred classes."""
    rate_per_s: int = 1_000
    """Requests, and as many reports."""
    seconds: float = 60.0
    warm_up_s: float = 60.0
    task_seconds: float = 2.0
    start_s: float = 900.0
    """The job has started and placed something in this time, or the measurement has failed."""
    past: str = ""
    """A folder in which ledger, snapshot and tables are kept: made where it is empty, and used by later runs of
    the same sizes, which go on with a copy of it. Nothing keeps none."""


def measure(parameters: Parameters) -> dict[str, Any]:
    """Run it and return the figures.

    Raises:
        RuntimeError: The job or the load ended badly; the message has the end of the job's log.
    """
    names = [f"region-{index:03d}" for index in range(parameters.regions)]
    per_node = -(-parameters.running // parameters.nodes)
    if per_node > GPUS_PER_NODE:
        raise RuntimeError(f"{parameters.running} running tasks need more than {parameters.nodes} nodes")
    with tempfile.TemporaryDirectory(prefix="bench-live-") as folder:
        base = Path(folder)
        warehouse = base / "warehouse"
        figures: dict[str, Any] = _past(warehouse, names, parameters, per_node)
        with Broker(base / "broker") as broker:
            figures |= _served(base, broker.bootstrap, names, parameters)
        latency = figures["latency"]
        figures |= batches(str(warehouse), latency.pop("from_ms"), latency.pop("to_ms"))
    return {
        "bench": "live",
        "machine": machine.describe(),
        "parameters": {name: getattr(parameters, name) for name in Parameters.__slots__ if name != "past"},
        **figures,
    }


def _past(warehouse: Path, names: list[str], parameters: Parameters, per_node: int) -> dict[str, Any]:
    """Write the ledger and the world around it, or take those that are kept, with their snapshot and tables."""
    if parameters.past and (kept := Path(parameters.past) / "warehouse").exists():
        shutil.copytree(kept, warehouse)
        return {"ledger": {"kept": True}}
    warehouse.mkdir()
    began = time.perf_counter()
    rows = write_history(
        str(warehouse),
        parameters.running,
        parameters.running,
        names,
        int(time.time() * 1000),
        waiting=parameters.waiting,
        per_node=per_node,
    )
    _write_world(str(warehouse), names, -(-parameters.nodes // parameters.regions))
    figures: dict[str, Any] = {"ledger": {"rows": rows, "written_s": round(time.perf_counter() - began, 1)}}
    with subprocess.Popen([sys.executable, "-m", "thalweg.benchmarks.live.tables", str(warehouse)]) as tables:
        figures["snapshot"] = make_snapshot(warehouse, again=False)
    if tables.returncode:
        raise RuntimeError("the tables could not be made; see the lines above")
    if parameters.past:
        shutil.copytree(warehouse, Path(parameters.past) / "warehouse")
    return figures


def _served(base: Path, bootstrap: str, regions: list[str], parameters: Parameters) -> dict[str, Any]:
    """Run the job and the load; return the load's figures, when the job was ready, and its memory."""
    ensure_topics(KafkaSettings(bootstrap_servers=bootstrap, topic_prefix=PREFIX), [*regions, "control"])
    environment = os.environ | {
        "THALWEG_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "THALWEG_KAFKA__TOPIC_PREFIX": PREFIX,
        "THALWEG_WAREHOUSE__PATH": str(base / "warehouse"),
        "THALWEG_SPARK__CHECKPOINTS": str(base / "checkpoints"),
        # Nobody sends samples here: what the tables say of nodes stays.
        "THALWEG_PLACE__NODE_TIMEOUT_MS": str(86_400_000),
    }
    wanted = {
        "bootstrap": bootstrap,
        "prefix": PREFIX,
        "regions": regions,
        "rate_per_s": parameters.rate_per_s,
        "seconds": parameters.seconds,
        "warm_up_s": parameters.warm_up_s,
        "pending": 0,
        "task_seconds": parameters.task_seconds,
        "patience_s": parameters.start_s,
    }
    path = base / "place.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "thalweg.jobs.place"], env=environment, stdout=log, stderr=log
        )
    driver = Driver(process=process, began_ms=int(time.time() * 1000), log=path)
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(driver, ended), daemon=True)
    watch.start()
    try:
        load = while_it_lives(
            process,
            [sys.executable, "-m", "thalweg.benchmarks.latency.latency_load", json.dumps(wanted)],
            timeout_s=parameters.start_s + parameters.warm_up_s + parameters.seconds + 120,
        )
        rebuilt = said(path, "world rebuilt")
        process.send_signal(signal.SIGTERM)  # in order, so that its last plans are written
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
    finally:
        ended.set()
        watch.join()
        driver.kill()
    if load is None:
        raise RuntimeError(f"the job or its load ended badly; the job's log ends with:\n{path.read_text()[-3000:]}")
    return {
        "latency": json.loads(load),
        "rebuilt": {name: rebuilt[name] for name in ("tasks", "rows", "rows_read", "seconds") if name in rebuilt},
        "peak_mb": {name: round(mb) for name, mb in sorted(driver.peak_mb.items())},
    }


def batches(warehouse: str, from_ms: int, to_ms: int) -> dict[str, Any]:
    """Say of the micro-batches of a while how many had a plan, how often they came, and what their steps took.

    Args:
        warehouse: in which `plans` lies.
        from_ms: when the while began.
        to_ms: and when it ended.
    """
    plans = open_or_create(PLANS, warehouse).to_pyarrow_table()
    at_ms = plans.column("planned_at").cast(pa.int64()).to_numpy() // 1_000
    within = plans.filter(pa.array((at_ms >= from_ms) & (at_ms <= to_ms))).sort_by("planned_at")
    if within.num_rows < 2:
        return {"batches": within.num_rows, "steps_ms": {}}
    period = np.diff(within.column("planned_at").cast(pa.int64()).to_numpy()) / 1_000
    columns = {name: within.column(f"{name}_ms").to_numpy() for name in STEPS}
    columns |= {"all": np.sum(list(columns.values()), axis=0), "period": period}
    return {
        "batches": within.num_rows,
        "placed": pc.sum(within.column("placed")).as_py(),
        "steps_ms": {
            name: {f"p{share}": round(float(np.percentile(column, share)), 1) for share in (50, 99)}
            for name, column in columns.items()
        },
    }


def _watch(driver: Driver, ended: threading.Event) -> None:
    while not ended.wait(0.5):
        driver.watch()


def _write_world(warehouse: str, regions: list[str], each: int) -> None:
    """Nodes of every region, one node of the model that most wait for in every tenth, all links and prices."""
    now = int(time.time() * 1e6)
    stamp = {"observed_at": now, "stamp_ms": now // 1_000, "stamp_counter": 0}

    def node(region: str, node_id: str, model: str) -> dict[str, Any]:
        return {
            "region": region,
            "node_id": node_id,
            "gpu_model": model,
            "spot": False,
            "gpus": GPUS_PER_NODE,
            "cpus": 192.0,
            "memory_gb": 1_024.0,
            "state": "ready",
            "stamp_region": region,
            **stamp,
        }

    table = open_or_create(NODES, warehouse)
    rows = [node(region, f"node-{index:06d}", "A100") for region in regions for index in range(each)]
    rows += [node(region, "scarce", "H100") for region in regions[::10]]
    append(table, pa.Table.from_pylist(rows, schema=NODES.schema))
    links = [
        {
            "region": a,
            "dst_region": b,
            "rtt_ms": 5.0 + 2.0 * min(abs(i - j), len(regions) - abs(i - j)),
            "gbps": 5.0,
            "usd_per_gb": 0.05,
            **stamp,
        }
        for i, a in enumerate(regions)
        for j, b in enumerate(regions)
        if a != b
    ]
    append(open_or_create(LINKS, warehouse), pa.Table.from_pylist(links, schema=LINKS.schema))
    prices = [
        {"region": region, "gpu_model": model, "spot": False, "usd_per_gpu_hour": usd + 0.01 * (index % 37), **stamp}
        for index, region in enumerate(regions)
        for model, usd in (("A100", 2.0), ("H100", 4.0))
    ]
    append(open_or_create(PRICES, warehouse), pa.Table.from_pylist(prices, schema=PRICES.schema))
