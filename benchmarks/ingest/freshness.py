"""A reader of its own: follows a Delta table's log and notes, for every commit it sees, how old each sample was.

It looks for the next entry by its name, which costs microseconds; loading the table to learn its version would cost
more than what is measured, and more with every commit since the last checkpoint.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from deltalake import DeltaTable

POLL_S: Final = 0.005
_LONGEST_MS: Final = 120_000


def entry_of(table: str, version: int) -> Path:
    """The log entry that makes a version, and with it the version's rows, visible."""
    return Path(table) / "_delta_log" / f"{version:020d}.json"


def ages_ms(table: str, version: int, seen_ms: float) -> npt.NDArray[np.int64]:
    """Age of every sample that a version added, at the moment the version was seen. A compaction adds none."""
    stamps = [np.empty(0, dtype=np.int64)]
    for line in entry_of(table, version).read_text(encoding="utf-8").splitlines():
        added = json.loads(line).get("add")
        if added and added["dataChange"]:
            column = pq.read_table(f"{table}/{added['path']}", columns=["stamp_ms"], partitioning=None)["stamp_ms"]
            stamps.append(column.to_numpy())
    ages: npt.NDArray[np.int64] = np.rint(seen_ms - np.concatenate(stamps)).astype(np.int64)
    return ages


def follow(table: str, seconds: float, *, samples: int) -> dict[str, Any]:
    """Follow a table for so long, or until so many samples were seen.

    Returns:
        A histogram of ages in milliseconds per second of the run, and the moment of each commit.
    """
    version = _wait_for(table, seconds).version()
    deadline = time.monotonic() + seconds
    commits: list[tuple[float, int, int]] = []
    histograms: dict[int, npt.NDArray[np.int64]] = {}
    seen_samples = 0
    while time.monotonic() < deadline and seen_samples < samples:
        if not entry_of(table, version + 1).exists():
            time.sleep(POLL_S)
            continue
        version += 1
        seen_ms = time.time_ns() / 1e6
        ages = np.clip(ages_ms(table, version, seen_ms), 0, _LONGEST_MS)
        commits.append((seen_ms, version, len(ages)))
        seen_samples += len(ages)
        second = int(seen_ms // 1000)
        counts = np.bincount(ages)
        if second in histograms:
            counts = _added(histograms[second], counts)
        histograms[second] = counts
    return {
        "commits": commits,
        "ages_by_second": {second: _sparse(counts) for second, counts in histograms.items()},
        "samples": seen_samples,
        "cpu_seconds": time.process_time(),
    }


def _wait_for(table: str, seconds: float) -> DeltaTable:
    deadline = time.monotonic() + seconds
    while not DeltaTable.is_deltatable(table):
        if time.monotonic() > deadline:
            raise click.ClickException(f"no table at {table} after {seconds:.0f} s")
        time.sleep(0.1)
    return DeltaTable(table)


def _added(left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    total = np.zeros(max(len(left), len(right)), dtype=np.int64)
    total[: len(left)] += left
    total[: len(right)] += right
    return total


def _sparse(counts: npt.NDArray[np.int64]) -> dict[int, int]:
    return {int(age): int(counts[age]) for age in np.flatnonzero(counts)}


@click.command()
@click.option("--table", required=True)
@click.option("--seconds", type=float, required=True)
@click.option("--samples", type=int, required=True)
def main(table: str, seconds: float, samples: int) -> None:
    """Follow a table and print what was seen."""
    json.dump(follow(table, seconds, samples=samples), sys.stdout)


if __name__ == "__main__":
    main()
