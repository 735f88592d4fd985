"""`bench window`: the window over a million tasks, as a process of its own, asked over HTTP and by a real browser.

Every time is from before the question was sent to after the answer was read, on the same machine; `event_to_*` from
before the ledger's commit.
"""

import asyncio
import json
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import psutil

from thalweg.benchmarks.window.serving import ask, serving, spread, timed, until
from thalweg.benchmarks.window.warehouse import (
    REGIONS,
    TENANTS,
    GrowingLedger,
    WarehouseSize,
    make_window_warehouse,
    placed,
    submitted,
)
from thalweg.stack import machine
from thalweg.window.assets import assets

_STATES: Final = ("waiting", "running", "succeeded", "failed", "cancelled")
_SORTS: Final = ("changed", "submitted", "priority", "cost", "gpus", "task", "state")
_GROUPS: Final = ("state", "tenant", "region", "array", "kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What is measured."""

    tasks: int = 1_000_000
    running: int = 80_000
    waiting: int = 20_000
    questions: int = 60
    """Of each kind."""
    listeners: int = 500
    events: int = 40
    """Commits of the ledger that are waited for by listeners, and half as many by the browser."""
    loads: int = 5
    """Of each page, by the browser."""
    seed: int = 0


def measure(parameters: Parameters) -> dict[str, Any]:
    """Make the tables, open the window and ask it.

    Raises:
        RuntimeError: the window did not open.
    """
    size = WarehouseSize.of(parameters.tasks, parameters.running, parameters.waiting)
    chance = random.Random(parameters.seed)
    with tempfile.TemporaryDirectory(prefix="bench-window-") as folder:
        warehouse = str(Path(folder, "warehouse"))
        Path(warehouse).mkdir()
        ledger = make_window_warehouse(warehouse, datetime.now(UTC), size, parameters.seed)
        with serving(warehouse, Path(folder)) as (url, process, opened_s):
            loaded_s = until(lambda: ask(f"{url}healthz")["loaded"])
            figures = {
                "answers_after_s": opened_s,
                "loaded_after_s": round(opened_s + loaded_s, 2),
                "rss_loaded_mb": _rss_mb(process),
                "questions_ms": _questions(url, parameters, chance),
                "reports_ms": _reports(url),
                "event_to_listener_ms": asyncio.run(_listening(url, ledger, parameters)),
                "browser": _browser(url, ledger, parameters),
                "rss_at_the_end_mb": _rss_mb(process),
                "page_gzipped_bytes": sum(len(asset.packed) for asset in assets().values()),
            }
    load = [round(value, 1) for value in psutil.getloadavg()]
    return {
        "bench": "window",
        "machine": {**machine.describe(), "load_1_5_15_min": load},
        "parameters": asdict(parameters),
        **figures,
    }


def _rss_mb(process: psutil.Process) -> int:
    return round(process.memory_info().rss / 1e6)


def _questions(url: str, parameters: Parameters, chance: random.Random) -> dict[str, dict[str, float]]:
    """Ask for pages and groups as people do: each question another one."""

    def condition() -> dict[str, str]:
        kinds: list[dict[str, str]] = [
            {"state": chance.choice(_STATES)},
            {"tenant": chance.choice(TENANTS)},
            {"region": chance.choice(REGIONS), "state": "running"},
            {"name": f"*{chance.randrange(1_000)}*"},
            {"array": f"sweep-{chance.randrange(200):03d}"},
            {"reason": chance.choice(("capacity", "quota", "latency"))},
            {"since": f"{chance.randrange(1, 600)}m"},
        ]
        return chance.choice(kinds)

    def many(make: Callable[[], dict[str, str]]) -> dict[str, float]:
        return spread([timed(f"{url}v1/tasks?{urlencode(make())}") for _ in range(parameters.questions)])

    return {
        "filter": many(lambda: condition() | {"limit": "100"}),
        "sort": many(lambda: {"sort": chance.choice(_SORTS), "order": chance.choice(("asc", "desc")), "limit": "100"}),
        "filter_and_sort": many(lambda: condition() | {"sort": chance.choice(_SORTS), "limit": "100"}),
        "group": many(lambda: {"group": chance.choice(_GROUPS)}),
        "filter_and_group": many(lambda: condition() | {"group": chance.choice(_GROUPS)}),
        "page_far_down": many(lambda: {"offset": str(chance.randrange(parameters.tasks)), "limit": "100"}),
        "exact_id": many(lambda: {"id": f"train-{chance.randrange(parameters.tasks):07d}"}),
    }


def _reports(url: str) -> dict[str, float]:
    names = ("overview", "regions", "nodes", "plans", "tenants", "money?by=region", "quality", "sync", "audit")
    for name in names:
        ask(f"{url}v1/{name}")
    time.sleep(2.5)  # what was read is given again for two seconds
    return {name: round(timed(f"{url}v1/{name}"), 1) for name in names}


async def _listening(url: str, ledger: GrowingLedger, parameters: Parameters) -> dict[str, Any]:
    """Let many listen; give the times from before a commit until each has its event, and whether all had all."""
    address = urlsplit(url)
    heard: dict[str, list[float]] = {}
    ready = asyncio.Semaphore(0)

    async def listener() -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(f"GET /v1/events HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        await reader.readuntil(b"event: hello")
        ready.release()
        try:
            while True:
                line = await reader.readuntil(b"\n")
                if line.startswith(b"data: {") and b'"task_id":"heard-' in line:
                    task_id = line.split(b'"task_id":"', 1)[1].split(b'"', 1)[0].decode()
                    heard.setdefault(task_id, []).append(time.perf_counter())
        finally:
            writer.close()

    listeners = [asyncio.create_task(listener()) for _ in range(parameters.listeners)]
    for _ in listeners:
        await ready.acquire()
    began: dict[str, float] = {}
    for number in range(parameters.events):
        task_id = f"heard-{number}"
        began[task_id] = time.perf_counter()
        await asyncio.to_thread(ledger.commit, [submitted(task_id)], datetime.now(UTC))
        while len(heard.get(task_id, ())) < parameters.listeners:
            await asyncio.sleep(0.01)
    for one in listeners:
        one.cancel()
    await asyncio.gather(*listeners, return_exceptions=True)
    first = [(min(heard[task_id]) - at) * 1_000 for task_id, at in began.items()]
    last = [(max(heard[task_id]) - at) * 1_000 for task_id, at in began.items()]
    return {"listeners": parameters.listeners, "first": spread(first), "last": spread(last)}


_PAINTED: Final = """() => new Promise((done) => {
  const looked = () => document.querySelector(SELECTOR)
    ? requestAnimationFrame(() => setTimeout(() => done(performance.now()))) : setTimeout(looked, 5);
  looked();
})"""
_APPEARED: Final = """(task) => new Promise((done) => {
  const looked = () => document.body.textContent.includes(task)
    ? requestAnimationFrame(() => setTimeout(() => done(Date.now()))) : setTimeout(looked, 5);
  looked();
})"""


def _browser(url: str, ledger: GrowingLedger, parameters: Parameters) -> dict[str, Any] | None:
    """Let a real browser draw; None where there is none."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if chromium is None:
        return None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        painted: dict[str, dict[str, float]] = {}
        for name, selector in (("overview", ".figure .value"), ("tasks", ".view .row .id a")):
            times = []
            for _ in range(parameters.loads):
                page = browser.new_context(viewport={"width": 1_440, "height": 900}).new_page()
                page.goto(f"{url}#/{name}", wait_until="commit")
                times.append(page.evaluate(_PAINTED.replace("SELECTOR", json.dumps(selector))))
                page.context.close()
            painted[name] = spread(times)
        page = browser.new_page()
        page.goto(f"{url}#/tasks")
        page.wait_for_selector(".view .row .id a")
        page.wait_for_selector("#live[data-how=live]")
        pixels = []
        for number in range(parameters.events // 2):
            task_id = f"pixel-{number}"
            began_ms = time.time() * 1_000
            thread = threading.Thread(
                target=ledger.commit, args=[[submitted(task_id), placed(task_id, REGIONS[0])], datetime.now(UTC)]
            )
            thread.start()
            pixels.append(page.evaluate(_APPEARED, task_id) - began_ms)
            thread.join()
        browser.close()
    return {"first_useful_paint_ms": painted, "event_to_pixel_ms": spread(pixels)}
