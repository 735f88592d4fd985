"""A window as a process of its own, for a benchmark: opened, asked and closed."""

import json
import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil


@contextmanager
def serving(
    warehouse: str, folder: Path, more: Mapping[str, str] | None = None
) -> Iterator[tuple[str, psutil.Process, float]]:
    """Open the window in a process; give its address, the process and how long it took until it answered."""
    began = time.perf_counter()
    log = folder / "serve.log"
    command = [sys.executable, "-P", "-m", "thalweg.cli.main", "serve", "--port", "0", "--warehouse", warehouse]
    with log.open("w") as output:
        process = subprocess.Popen(command, stderr=output, stdout=output, env={**os.environ, **(more or {})})
    try:
        while " open: " not in log.read_text():
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.02)
        url = log.read_text().split(" open: ")[1].split()[0]
        yield url, psutil.Process(process.pid), round(time.perf_counter() - began, 2)
    finally:
        process.terminate()
        process.wait()


def until(condition: Callable[[], bool]) -> float:
    """Wait for it, and give the seconds that it took."""
    began = time.perf_counter()
    while not condition():
        time.sleep(0.05)
    return time.perf_counter() - began


def ask(url: str) -> Any:
    """Ask, and give the answer's document, whatever its status."""
    try:
        with urllib.request.urlopen(url, timeout=600) as answer:  # our own window
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def timed(url: str) -> float:
    """Ask, and give the milliseconds until the answer was read."""
    began = time.perf_counter()
    ask(url)
    return (time.perf_counter() - began) * 1_000


def spread(values: Sequence[float]) -> dict[str, float]:
    """Give the middle, the 95th percentile and the worst of some times."""
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 1),
        "p95": round(ordered[max(0, round(0.95 * len(ordered)) - 1)], 1),
        "max": round(ordered[-1], 1),
    }
