"""`bench window-soak`: a window over a million tasks for an hour: does its memory stay, does nobody miss an event?

A ledger goes on as a place job writes it (a commit a second, its small files merged, its log cut), listeners come and
go with their Last-Event-ID, and somebody looks at pages. The window's resident memory is sampled all the while. The
line through the samples is fitted from `settled_min` on: what is kept of the newest events has to fill first.
"""

import asyncio
import csv
import itertools
import random
import tempfile
from collections import deque
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import numpy as np
import psutil
import pyarrow as pa
from deltalake import DeltaTable

from thalweg.benchmarks.window.serving import ask, serving, spread, timed, until
from thalweg.benchmarks.window.warehouse import (
    REGIONS,
    TENANTS,
    WarehouseSize,
    make_window_warehouse,
    placed,
    submitted,
)
from thalweg.stack import machine
from thalweg.sync.delta.contracts import DECISIONS, TASKS
from thalweg.sync.delta.log_writer import LogWriter
from thalweg.sync.delta.store import table_uri
from thalweg.sync.delta.upkeep import Upkeep
from thalweg.window.feed import place_named

_MB: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakParameters:
    """What is measured."""

    tasks: int = 1_000_000
    running: int = 80_000
    waiting: int = 20_000
    minutes: float = 60.0
    archive_min: float = 10.0
    """At this minute 15 in 100 tasks are archived: the window reads all anew."""
    settled_min: float = 20.0
    """The line is fitted from here on."""
    tasks_per_s: int = 3
    """So many begin each second, are assigned, run and end: four rows of the ledger for each."""
    listeners: int = 8
    reconnect_s: float = 20.0
    """One of the listeners leaves and comes back so often."""
    look_s: float = 4.0
    """Somebody asks for a page so often."""
    sample_s: float = 10.0
    anew_s: float = 120.0
    """The window looks so often whether much was archived (`window.anew_s`, an hour by itself)."""
    csv: str = ""
    """File for the samples; none by itself."""
    seed: int = 0


class _Ledger:
    """The ledger that goes on: tasks begin, are assigned, run and end."""

    def __init__(self, warehouse: str, first_batch: int, tasks_per_s: int) -> None:
        self._log = LogWriter(DECISIONS, warehouse)
        self._upkeep = Upkeep(table_uri(warehouse, DECISIONS.name))
        self._batches = itertools.count(first_batch + 1)
        self._tasks_per_s = tasks_per_s
        self.rows = 0

    def second(self) -> None:
        """Write what one second brings, and now and then look after the table."""
        batch = next(self._batches)
        of = [
            [f"soak-{number * self._tasks_per_s + one}" for one in range(self._tasks_per_s)]
            for number in (batch, batch - 2, batch - 4, batch - 30)
        ]
        facts = [submitted(task_id) for task_id in of[0]]
        facts += [placed(task_id, REGIONS[batch % len(REGIONS)]) for task_id in of[1]]
        facts += [_reported(task_id, "running", batch) for task_id in of[2]]
        facts += [_reported(task_id, "succeeded", batch) for task_id in of[3]]
        common = {"query_id": "soak", "batch_id": batch, "driver_epoch": 1, "copy": 0, "epoch": 0}
        rows = [{**common, "decided_at": datetime.now(UTC), "row": row, **fact} for row, fact in enumerate(facts)]
        self._log.append(pa.Table.from_pylist(rows, DECISIONS.schema), {"soak": batch})
        self.rows += len(rows)
        if batch % 60 == 0:
            self._log.compact(at_least=50)
            self._upkeep.checkpoint()


def _reported(task_id: str, transition: str, batch: int) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "transition": transition,
        "epoch": 1,
        "attempt": 1,
        "region": REGIONS[(batch - (2 if transition == "running" else 28)) % len(REGIONS)],
    }


class _Listener:
    """Follows the events over as many connections as it takes, and knows what it must hear."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self.heard = 0
        self.missed: list[str] = []
        self.reconnected = 0
        self._last: tuple[int, int] | None = None
        self._last_id = ""
        self._leave = asyncio.Event()

    def leave(self) -> None:
        """Drop the connection; it is made again after a second."""
        self._leave.set()

    async def follow(self, rows_per_batch: int) -> None:
        while True:
            self._leave.clear()
            reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
            last = f"Last-Event-ID: {self._last_id}\r\n" if self._last_id else ""
            writer.write(f"GET /v1/events HTTP/1.1\r\nHost: {self._address.netloc}\r\n{last}\r\n".encode())
            listening = asyncio.ensure_future(self._listen(reader, rows_per_batch))
            leaving = asyncio.ensure_future(self._leave.wait())
            try:
                await asyncio.wait([listening, leaving], return_when=asyncio.FIRST_COMPLETED)
            finally:
                listening.cancel()
                leaving.cancel()
                writer.close()
            self.reconnected += 1
            await asyncio.sleep(1.0)

    async def _listen(self, reader: asyncio.StreamReader, rows_per_batch: int) -> None:
        event_id = ""
        while line := await reader.readline():
            if line.startswith(b"id: "):
                event_id = line[4:].decode().strip()
            elif line.startswith(b"event: change"):
                place = place_named(event_id)
                assert place is not None
                _, batch, row = place.position
                if self._last is not None and (batch, row) != self._next(rows_per_batch):
                    self.missed.append(f"after {self._last} came {(batch, row)}")
                self._last, self._last_id = (batch, row), event_id
                self.heard += 1

    def _next(self, rows_per_batch: int) -> tuple[int, int]:
        assert self._last is not None
        batch, row = self._last
        return (batch, row + 1) if row + 1 < rows_per_batch else (batch + 1, 0)


def measure(parameters: SoakParameters) -> dict[str, Any]:
    """Serve, write, listen, look and sample, for as long as is asked.

    Raises:
        RuntimeError: the window did not open.
    """
    size = WarehouseSize.of(parameters.tasks, parameters.running, parameters.waiting)
    with tempfile.TemporaryDirectory(prefix="bench-window-soak-") as folder:
        warehouse = str(Path(folder, "warehouse"))
        Path(warehouse).mkdir()
        made = make_window_warehouse(warehouse, datetime.now(UTC), size, parameters.seed)
        ledger = _Ledger(warehouse, made.batch, parameters.tasks_per_s)
        more = {"THALWEG_WINDOW__ANEW_S": str(parameters.anew_s)}
        with serving(warehouse, Path(folder), more) as (url, process, _):
            until(lambda: ask(f"{url}healthz")["loaded"])
            figures = asyncio.run(_soaked(url, process, ledger, warehouse, parameters))
    return {
        "bench": "window-soak",
        "machine": {**machine.describe(), "load_1_5_15_min": [round(value, 1) for value in psutil.getloadavg()]},
        "parameters": asdict(parameters),
        **figures,
    }


async def _soaked(
    url: str, process: psutil.Process, ledger: _Ledger, warehouse: str, parameters: SoakParameters
) -> dict[str, Any]:
    began = perf_counter()
    ends = began + parameters.minutes * 60
    listeners = [_Listener(url) for _ in range(parameters.listeners)]
    samples: list[dict[str, float]] = []
    looks: dict[str, list[float]] = {}

    async def every(seconds: float, do: Any) -> None:
        while perf_counter() < ends:
            due = perf_counter() + seconds
            await do()
            await asyncio.sleep(max(0.0, due - perf_counter()))

    async def write() -> None:
        await asyncio.to_thread(ledger.second)

    async def archive() -> None:
        await asyncio.sleep(parameters.archive_min * 60)
        await asyncio.to_thread(lambda: DeltaTable(table_uri(warehouse, TASKS.name)).delete("state = 'cancelled'"))

    async def come_and_go() -> None:
        if listeners:
            turns.rotate()
            turns[0].leave()

    async def look() -> None:
        kind, path = _page(chance)
        looks.setdefault(kind, []).append(await asyncio.to_thread(timed, f"{url}{path}"))

    async def sample() -> None:
        memory = process.memory_full_info()
        samples.append(
            {
                "minute": round((perf_counter() - began) / 60, 3),
                "rss_mb": round(memory.rss / _MB, 1),
                "own_mb": round(memory.uss / _MB, 1),
                "threads": process.num_threads(),
                "files": process.num_fds(),
                "ledger_rows": ledger.rows,
                "load": round(psutil.getloadavg()[0], 2),
            }
        )
        if parameters.csv:
            await asyncio.to_thread(_written, Path(parameters.csv), samples)

    turns, chance = deque(listeners), random.Random(parameters.seed)
    following = [asyncio.ensure_future(one.follow(4 * parameters.tasks_per_s)) for one in listeners]
    await asyncio.gather(
        archive(),
        every(1.0, write),
        every(parameters.reconnect_s, come_and_go),
        every(parameters.look_s, look),
        every(parameters.sample_s, sample),
    )
    await asyncio.sleep(5.0)  # the last who left is back, and has what was written meanwhile
    for one in following:
        one.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    settled = [one for one in samples if one["minute"] >= min(parameters.settled_min, parameters.minutes / 2)]
    minutes = np.array([one["minute"] for one in settled])
    return {
        "samples": samples,
        "rss_mb": {
            "first": samples[0]["rss_mb"],
            "settled": settled[0]["rss_mb"],
            "last": samples[-1]["rss_mb"],
            "most": max(one["rss_mb"] for one in samples),
            "slope_per_hour": _slope(minutes, settled, "rss_mb"),
        },
        "own_mb": {"last": samples[-1]["own_mb"], "slope_per_hour": _slope(minutes, settled, "own_mb")},
        "ledger_rows": ledger.rows,
        "listeners": {
            "heard": sum(one.heard for one in listeners),
            "reconnected": sum(one.reconnected for one in listeners),
            "missed": [words for one in listeners for words in one.missed][:20],
        },
        "looks_ms": {kind: spread(times) | {"looks": len(times)} for kind, times in sorted(looks.items())},
    }


def _slope(minutes: Any, samples: list[dict[str, float]], name: str) -> float:
    return round(float(np.polyfit(minutes, [one[name] for one in samples], 1)[0]) * 60, 1)


def _page(chance: random.Random) -> tuple[str, str]:
    tasks = [
        {"state": chance.choice(("waiting", "running", "failed"))},
        {"tenant": chance.choice(TENANTS), "sort": chance.choice(("cost", "gpus", "priority"))},
        {"name": f"*{chance.randrange(1_000)}*"},
        {"region": chance.choice(REGIONS), "group": chance.choice(("state", "tenant", "array"))},
    ]
    kinds = [
        *(("tasks", f"v1/tasks?{urlencode(one)}") for one in tasks),
        ("a task", f"v1/tasks/soak-{chance.randrange(400)}?reasons=0"),
        *((name, f"v1/{name}") for name in ("overview", "regions", "plans", "tenants", "money", "sync", "quality")),
    ]
    return chance.choice(kinds)


def _written(path: Path, samples: list[dict[str, float]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(samples[0]))
        writer.writeheader()
        writer.writerows(samples)
