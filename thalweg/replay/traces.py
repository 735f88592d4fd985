"""Readers of public traces: the openb GPU-sharing cluster (Alibaba 2023) and the Philly job trace (Microsoft 2017).

Files may be plain or gzipped CSV. A column that is missing or a value that is not a number is an error that names the
file, the line and the value; a column that only some variants have (gpu_spec) may be absent.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from thalweg.scheduling.pack.nodes import Need


class TraceError(ValueError):
    """A trace file is not what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenbNode:
    """One machine of the openb cluster."""

    name: str
    gpu_model: str
    gpus: int
    cpu_milli: int
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenbPod:
    """One pod; `gpu_models` is empty when any model will do. Times are seconds since the trace began, or None."""

    name: str
    need: Need
    gpu_models: frozenset[str]
    created_s: int | None
    deleted_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhillyJob:
    """One job of the Philly trace, in file order."""

    job_id: str
    submitted_at: datetime
    duration_s: float
    gpus: int
    cluster: str


def read_openb_nodes(path: Path) -> list[OpenbNode]:
    """Read an openb node list, in file order."""
    return [
        OpenbNode(
            name=row["sn"],
            gpu_model=row["model"],
            gpus=_whole(path, line, row, "gpu"),
            cpu_milli=_whole(path, line, row, "cpu_milli"),
            memory_mib=_whole(path, line, row, "memory_mib"),
        )
        for line, row in _rows(path, ("sn", "cpu_milli", "memory_mib", "gpu", "model"))
    ]


def read_openb_pods(path: Path) -> list[OpenbPod]:
    """Read an openb pod list, in file order."""
    pods = []
    for line, row in _rows(path, ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")):
        gpus = _whole(path, line, row, "num_gpu")
        try:
            need = Need(
                gpus=gpus,
                gpu_milli=_whole(path, line, row, "gpu_milli") if gpus else 0,
                cpu_milli=_whole(path, line, row, "cpu_milli"),
                memory_mib=_whole(path, line, row, "memory_mib"),
            )
        except ValueError as error:
            raise TraceError(f"{path.name} line {line}: {error}") from None
        pods.append(
            OpenbPod(
                name=row["name"],
                need=need,
                gpu_models=frozenset(model for model in (row.get("gpu_spec") or "").split("|") if model),
                created_s=_whole(path, line, row, "creation_time") if row.get("creation_time") else None,
                deleted_s=_whole(path, line, row, "deletion_time") if row.get("deletion_time") else None,
            )
        )
    return pods


def read_philly_jobs(path: Path) -> list[PhillyJob]:
    """Read the Philly trace, in file order; times are taken as UTC."""
    jobs = []
    for line, row in _rows(path, ("timestamp", "duration", "num_gpus", "cluster")):
        try:
            submitted_at = datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC)
            duration_s = float(row["duration"])
        except ValueError as error:
            raise TraceError(f"{path.name} line {line}: {error}") from None
        jobs.append(
            PhillyJob(
                job_id=f"philly-{line - 2:06d}",
                submitted_at=submitted_at,
                duration_s=duration_s,
                gpus=_whole(path, line, row, "num_gpus"),
                cluster=row["cluster"],
            )
        )
    return jobs


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, str]]]:
    try:
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as text:
            reader = csv.DictReader(text)
            missing = [column for column in needed if column not in (reader.fieldnames or ())]
            if missing:
                raise TraceError(f"{path.name} has no column {', '.join(missing)}; it has {reader.fieldnames}")
            for row in reader:
                if None in row or None in row.values():
                    raise TraceError(f"{path.name} line {reader.line_num}: not as many values as columns")
                yield reader.line_num, row
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise TraceError(f"{path.name} cannot be read: {error}") from None


def _whole(path: Path, line: int, row: Mapping[str, str], column: str) -> int:
    """Read a count >= 0; the trace writes some of them as 12.0."""
    value = row[column]
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if number < 0 or number != int(number):
        raise TraceError(f"{path.name} line {line}: {column} is {value!r}, a whole number >= 0 is needed")
    return int(number)
