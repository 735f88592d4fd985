"""Readers of public traces: the openb GPU-sharing cluster (Alibaba 2023) and the Philly job trace (Microsoft 2017).

Files may be plain or gzipped CSV. A column that is missing or a value that is not a number is an error that names the
file, the line and the value, and so is one that only a float can hold (nan, inf); a column that only some variants
have (gpu_spec) may be absent.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from thalweg.scheduling.pack.nodes import Need

_NO_MODEL: Final = frozenset({"", "nan", "none", "null"})
"""How tools write that a pod names no GPU model."""
_LARGEST: Final = 2**53
"""Above it a float holds not every whole number."""


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
            gpus=whole(path, line, row, "gpu"),
            cpu_milli=whole(path, line, row, "cpu_milli"),
            memory_mib=whole(path, line, row, "memory_mib"),
        )
        for line, row in read_rows(path, ("sn", "cpu_milli", "memory_mib", "gpu", "model"))
    ]


def read_openb_pods(path: Path) -> list[OpenbPod]:
    """Read an openb pod list, in file order."""
    pods = []
    for line, row in read_rows(path, ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")):
        gpus = whole(path, line, row, "num_gpu")
        try:
            need = Need(
                gpus=gpus,
                gpu_milli=whole(path, line, row, "gpu_milli") if gpus else 0,
                cpu_milli=whole(path, line, row, "cpu_milli"),
                memory_mib=whole(path, line, row, "memory_mib"),
            )
        except ValueError as error:
            raise TraceError(f"{path.name} line {line}: {error}") from None
        pods.append(
            OpenbPod(
                name=row["name"],
                need=need,
                gpu_models=frozenset(
                    model for model in (row.get("gpu_spec") or "").split("|") if model.lower() not in _NO_MODEL
                ),
                created_s=whole(path, line, row, "creation_time") if row.get("creation_time") else None,
                deleted_s=whole(path, line, row, "deletion_time") if row.get("deletion_time") else None,
            )
        )
    return pods


def read_philly_jobs(path: Path) -> list[PhillyJob]:
    """Read the Philly trace, in file order; times without an offset are taken as UTC."""
    jobs = []
    for line, row in read_rows(path, ("timestamp", "duration", "num_gpus", "cluster")):
        jobs.append(
            PhillyJob(
                job_id=f"philly-{line - 2:06d}",
                submitted_at=moment(path, line, row, "timestamp"),
                duration_s=seconds(path, line, row, "duration"),
                gpus=whole(path, line, row, "num_gpus"),
                cluster=row["cluster"],
            )
        )
    return jobs


def read_rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Read a trace's rows with their line numbers.

    Raises:
        TraceError: it cannot be read, lacks a column, or a row has not as many values as columns.
    """
    try:
        # Spreadsheets begin a file with a byte-order mark, which is no part of the first column's name.
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text)
            missing = [column for column in needed if column not in (reader.fieldnames or ())]
            if missing:
                has = f"it has {', '.join(reader.fieldnames)}" if reader.fieldnames else "it is empty"
                raise TraceError(f"{path.name} has no column {', '.join(missing)}; {has}")
            for row in reader:
                if None in row or None in row.values():
                    raise TraceError(f"{path.name} line {reader.line_num}: not as many values as columns")
                yield reader.line_num, row
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise TraceError(f"{path.name} cannot be read: {error}") from None


def whole(path: Path, line: int, row: Mapping[str, str], column: str) -> int:
    """Read a count >= 0; the trace writes some of them as 12.0."""
    number = _number(row[column])
    if number is None or number != int(number) or number > _LARGEST:
        raise TraceError(
            f"{path.name} line {line}: {column} is {row[column]!r}, a whole number from 0 to {_LARGEST} is needed"
        )
    return int(number)


def seconds(path: Path, line: int, row: Mapping[str, str], column: str) -> float:
    """Read a duration >= 0, or a moment in seconds since the trace began."""
    number = _number(row[column])
    if number is None:
        raise TraceError(f"{path.name} line {line}: {column} is {row[column]!r}, seconds >= 0 are needed")
    return number


def moment(path: Path, line: int, row: Mapping[str, str], column: str) -> datetime:
    """Read a time of day and date; UTC where it has no offset."""
    try:
        found = datetime.fromisoformat(row[column])
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise TraceError(f"{path.name} line {line}: {column}: {error}") from None


def _number(text: str) -> float | None:
    """Read a finite number >= 0; None where the text is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
