"""`bench burst`: very many requests at once, beside a steady trickle: what is lost, who starves, when all is as before.

The burst asks for GPUs of one model, of which there are few: some of it runs all the while, the rest waits. The trickle
asks for another model, of which there is enough, so what it waits for is the pipeline. Broker, the real place job and
the load are processes of their own on this machine. Afterwards the ledger is counted.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import pyarrow as pa

from thalweg.benchmarks.latency.latency import REGIONS, application, while_it_lives, write_world
from thalweg.conf.settings import KafkaSettings
from thalweg.query.sql.query import query
from thalweg.stack import machine
from thalweg.stack.broker import Broker
from thalweg.streams.broker.admin import ensure_topics
from thalweg.sync.delta.contracts import NODES
from thalweg.sync.delta.store import append, open_or_create

PREFIX: Final = "bench-burst"
SCARCE_NODES: Final = 64
"""Of the burst's model, eight GPUs each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What is measured."""

    burst: int = 1_000_000
    rate_per_s: int = 50
    """Of the trickle."""
    warm_up_s: float = 20.0
    before_s: float = 20.0
    """Trickle alone: what is normal."""
    after_s: float = 60.0
    """How long is looked on after the burst was taken in."""
    task_seconds: float = 4.0
    """A region reports a task as succeeded so long after it was assigned."""
    timeout_s: float = 3_000.0


def measure(parameters: Parameters) -> dict[str, Any]:
    """Run it and return the figures."""
    with tempfile.TemporaryDirectory(prefix="bench-burst-") as folder:
        base = Path(folder)
        warehouse = base / "warehouse"
        warehouse.mkdir()
        with Broker(base / "broker") as broker:
            ensure_topics(KafkaSettings(bootstrap_servers=broker.bootstrap, topic_prefix=PREFIX), [*REGIONS, "control"])
            write_world(str(warehouse), 200)
            _write_scarce(str(warehouse))
            figures, peak_mb = _run(base, broker.bootstrap, parameters)
        counted = _counted(str(warehouse))
    return {
        "bench": "burst",
        "machine": machine.describe(),
        "parameters": {name: getattr(parameters, name) for name in Parameters.__slots__},
        **figures,
        "ledger": counted,
        "lost": figures["sent"]["burst"] + figures["sent"]["trickle"] - counted["tasks"],
        "peak_mb": peak_mb,
    }


def _run(base: Path, bootstrap: str, parameters: Parameters) -> tuple[dict[str, Any], dict[str, int]]:
    environment = os.environ | {
        "THALWEG_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "THALWEG_KAFKA__TOPIC_PREFIX": PREFIX,
        "THALWEG_WAREHOUSE__PATH": str(base / "warehouse"),
        "THALWEG_SPARK__CHECKPOINTS": str(base / "checkpoints"),
        # Nobody sends samples here: what the tables say of nodes stays.
        "THALWEG_PLACE__NODE_TIMEOUT_MS": str(86_400_000),
    }
    wanted = {name: getattr(parameters, name) for name in Parameters.__slots__}
    wanted |= {"bootstrap": bootstrap, "prefix": PREFIX, "regions": [*REGIONS, "control"]}
    command = [sys.executable, "-m", "thalweg.benchmarks.recovery.burst_load", json.dumps(wanted)]
    with (
        (base / "log").open("wb") as log,
        application("thalweg.jobs.place", environment, log) as place,
        _Memory(place) as memory,
    ):
        printed = while_it_lives(place, command, parameters.timeout_s)
    if printed is None:
        raise RuntimeError(f"the burst failed; the log ends with:\n{(base / 'log').read_text()[-3000:]}")
    return json.loads(printed), memory.peak_mb()


class _Memory:
    """The most memory that a process and its JVM held."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._peak: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def peak_mb(self) -> dict[str, int]:
        """Return it by program."""
        return {name: round(mb) for name, mb in sorted(self._peak.items())}

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            try:
                own = psutil.Process(self._process.pid)
                for one in (own, *own.children(recursive=True)):
                    name = "jvm" if "java" in one.name() else ("driver" if one.pid == own.pid else "snapshot")
                    self._peak[name] = max(self._peak.get(name, 0.0), one.memory_info().rss / 1e6)
            except psutil.Error:
                continue


def _write_scarce(warehouse: str) -> None:
    """Nodes of the burst's model, beside those of the trickle's."""
    nodes = open_or_create(NODES, warehouse)
    like = nodes.to_pyarrow_table().slice(0, 1).to_pylist()[0]
    rows = [
        like | {"region": region, "stamp_region": region, "node_id": f"scarce-{index:03d}", "gpu_model": "H100"}
        for index in range(SCARCE_NODES)
        for region in [REGIONS[index % len(REGIONS)]]
    ]
    append(nodes, pa.Table.from_pylist(rows, schema=NODES.schema))


def _counted(warehouse: str) -> dict[str, int]:
    """Count what became of the requests: rows of the ledger, not of tables that follow it."""
    (row,) = query(
        "SELECT count(DISTINCT task_id) FILTER (WHERE transition = 'submitted') AS tasks,"
        " count(*) FILTER (WHERE transition = 'submitted') AS taken,"
        " count(*) FILTER (WHERE transition = 'lost') AS copies_lost,"
        " count(*) FILTER (WHERE transition = 'assigned') AS assigned FROM decisions",
        warehouse,
    ).dicts()
    return {name: int(number) for name, number in row.items()}
