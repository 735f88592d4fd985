"""What runs in a state folder, for people and for `ps --json`: the record, checked against the processes that live."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from thalweg.stack.state import StateFolder, identity_in


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """One supervised process."""

    name: str
    state: str  # of thalweg.supervisor.ProcessState, or "gone": recorded as running, but no such process lives
    pid: int | None
    uptime_seconds: float | None
    ports: Mapping[str, int]
    cpu_percent: float | None  # of one core, over the moment of the look, with all it started in turn
    rss_mb: float | None  # likewise
    restarts: int
    last_failure: str
    log: str


def process_rows(folder: StateFolder, *, sample_seconds: float = 0.2) -> list[ProcessRow]:
    """Return a row per process of the last stack.

    Takes ``sample_seconds``, in which CPU time is counted; 0 counts none.
    """
    records = folder.stack().get("processes", [])
    families = {record["name"]: _family(record) for record in records}
    before = {name: _cpu_seconds(family) for name, family in families.items()}
    if sample_seconds and any(families.values()):
        time.sleep(sample_seconds)
    return [
        _row(record, families[record["name"]], before[record["name"]], sample_seconds=sample_seconds)
        for record in records
    ]


def _row(
    record: Mapping[str, Any], family: list[psutil.Process], cpu_before: float, *, sample_seconds: float
) -> ProcessRow:
    lives = bool(family)
    claims_to_live = record["pid"] is not None
    cpu_seconds = _cpu_seconds(family) - cpu_before
    return ProcessRow(
        name=record["name"],
        state=record["state"] if lives or not claims_to_live else "gone",
        pid=record["pid"],
        uptime_seconds=round(time.time() - family[0].create_time(), 1) if lives else None,
        ports=record["ports"],
        cpu_percent=round(cpu_seconds / sample_seconds * 100, 1) if lives and sample_seconds else None,
        rss_mb=round(sum(map(_rss_bytes, family)) / 1e6, 1) if lives else None,
        restarts=record["restarts"],
        last_failure=record["last_failure"],
        log=record["log"],
    )


def _family(record: Mapping[str, Any]) -> list[psutil.Process]:
    """Return the recorded process and all its descendants; empty if it does not live."""
    identity = identity_in(record)
    if identity is None or not identity.is_alive():
        return []
    try:
        process = psutil.Process(identity.pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_seconds(family: list[psutil.Process]) -> float:
    total = 0.0
    for process in family:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def _rss_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def as_document(folder: StateFolder, rows: list[ProcessRow]) -> dict[str, object]:
    """Return the document of ``ps --json``."""
    supervisor = folder.supervisor()
    alive = supervisor is not None and supervisor.is_alive() and folder.is_held()
    return {
        "state_folder": str(folder.path),
        "running": alive,
        "supervisor_pid": supervisor.pid if supervisor is not None and alive else None,
        "processes": [asdict(row) for row in rows],
    }
