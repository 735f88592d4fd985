"""Published traces as demand: the openb pod list and the Philly job list, in their own formats, at a time scale."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from thalweg.demo.load import Message, MessageKind
from thalweg.replay.traces import TraceError, moment, read_rows, seconds, whole
from thalweg.scheduling.counted import counted

GPUS_PER_NODE: Final = 8
OPENB: Final = frozenset({"name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "creation_time"})
PHILLY: Final = frozenset({"timestamp", "duration", "num_gpus", "cluster"})
"""Columns by which a list is known."""
MODELS: Final = {"V100M16": "V100", "V100M32": "V100", "T4": "T4"}
"""openb's names of the models that our regions have, too; a pod that names only others takes any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One task of a trace."""

    at_s: float
    task_id: str
    request: dict[str, Any]


def trace_messages(
    path: Path, regions: Sequence[str], *, rate_per_s: float, time_scale: float | None
) -> tuple[Iterator[Message], float, str]:
    """Read a trace and return its messages in order of arrival, the time scale, and what it is in words.

    Args:
        path: .csv or .csv.gz; the header tells which trace it is.
        regions: a Philly cluster's users and data are in one of them; clusters are dealt out in turn, largest first.
        rate_per_s: with no time scale given, the replay begins where the trace is busiest, as many times faster as
            makes this the mean rate of its first minute.
        time_scale: trace seconds per real second; with one given, the replay begins with the trace's first task.

    Raises:
        TraceError: the format is not known, or a row is damaged.
    """
    reading = read_rows(path, ())
    first = next(reading, None)  # whose file it is comes before what is wrong further down in it
    columns = frozenset(first[1]) if first is not None else frozenset()
    known = columns >= OPENB or columns >= PHILLY
    numbered = [first, *reading] if first is not None and known else []
    if columns >= OPENB:
        what = "openb"
        read: Callable[[Path, int, Mapping[str, str]], Arrival] = _openb
    elif columns >= PHILLY:
        what, read = "Philly", _philly([row for _, row in numbered], regions)
    else:
        raise TraceError(
            f"{path}: columns {', '.join(sorted(columns)) or 'none'}; known are the openb pod list (name, cpu_milli, "
            "memory_mib, num_gpu, gpu_milli, gpu_spec, creation_time, deletion_time) and the Philly job list "
            "(timestamp, duration, num_gpus, cluster)"
        )
    arrivals = [read(path, line, row) for line, row in numbered]
    arrivals.sort(key=lambda arrival: (arrival.at_s, arrival.task_id))
    if time_scale is None:
        minute = min(len(arrivals), max(2, round(rate_per_s * 60)))
        begin, span_s = _busiest(arrivals, minute)
        arrivals, scale = arrivals[begin:], max(1.0, span_s * rate_per_s / minute)
    else:
        scale = time_scale
    first_s = arrivals[0].at_s
    messages = (
        Message(
            due_s=(arrival.at_s - first_s) / scale,
            kind=MessageKind.TASK,
            task_id=arrival.task_id,
            content=arrival.request,
        )
        for arrival in arrivals
    )
    return messages, scale, f"{what} trace, {counted(len(arrivals), 'task')}, {scale:,.0f} times faster"


def _busiest(arrivals: Sequence[Arrival], count: int) -> tuple[int, float]:
    """First of the `count` consecutive arrivals that lie closest together, and the seconds between first and last.

    Both traces begin (and openb spends three quarters of its time) with a task now and then.
    """
    spans = (arrivals[at + count - 1].at_s - arrivals[at].at_s for at in range(len(arrivals) - count + 1))
    span_s, begin = min((span, at) for at, span in enumerate(spans))
    return begin, span_s


def _openb(path: Path, line: int, row: Mapping[str, str]) -> Arrival:
    gpus, milli, cpu_milli, memory_mib = (
        whole(path, line, row, column) for column in ("num_gpu", "gpu_milli", "cpu_milli", "memory_mib")
    )
    per_worker: dict[str, Any] = {"cpus": cpu_milli / 1000, "memory_gb": round(memory_mib / 1024, 3)}
    if gpus and milli < 1000:
        per_worker["gpu_milli"] = milli
    elif gpus:
        per_worker["gpus"] = gpus
    models = sorted({MODELS[model] for model in (row.get("gpu_spec") or "").split("|") if model in MODELS})
    if gpus and models:
        per_worker["gpu_models"] = models
    created_s = seconds(path, line, row, "creation_time")
    ended_s = seconds(path, line, row, "deletion_time") if row.get("deletion_time") else created_s + 3_600
    request = {
        "task_id": row["name"],
        "per_worker": per_worker,
        "expected_s": max(1.0, ended_s - created_s),
        "tenant": row.get("qos") or "default",
        "spot_ok": row.get("qos") == "BE",
    }
    return Arrival(at_s=created_s, task_id=row["name"], request=request)


def _philly(
    rows: Sequence[Mapping[str, str]], regions: Sequence[str]
) -> Callable[[Path, int, Mapping[str, str]], Arrival]:
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row["cluster"]] = sizes.get(row["cluster"], 0) + 1
    ordered = sorted(sizes, key=lambda cluster: (-sizes[cluster], cluster))
    home = {cluster: regions[index % len(regions)] for index, cluster in enumerate(ordered)}

    def read(path: Path, line: int, row: Mapping[str, str]) -> Arrival:
        gpus = whole(path, line, row, "num_gpus")
        workers = max(1, math.ceil(gpus / GPUS_PER_NODE))
        task_id = f"philly-{line:06d}"
        request = {
            "task_id": task_id,
            "workers": workers,
            "per_worker": {"gpus": math.ceil(gpus / workers)},
            "expected_s": max(1.0, seconds(path, line, row, "duration")),
            "tenant": row["cluster"],
            "kind": "train",
            "origin_region": home[row["cluster"]],
        }
        at = moment(path, line, row, "timestamp")
        return Arrival(at_s=at.timestamp(), task_id=task_id, request=request)

    return read
