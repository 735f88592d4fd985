"""What runs in a state folder, for people and for `ps --json`: the record, checked against the processes that live."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from thalweg.processes.disk import full_words
from thalweg.processes.supervisor import ProcessState
from thalweg.stack.state import StateFolder, identity_in

GONE: Final = "gone"
"""Recorded as running, and no such process lives."""
FROZEN: Final = "frozen"
"""Lives and is stopped by a signal, or one that it started is. Whether it says so or not: the kernel does."""
STILL_AFTER_S: Final = 20.0
"""So long a supervisor's pulse may stand still: it beats every second, and a crowded machine gives it that within."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """One supervised process."""

    name: str
    state: str  # of ProcessState, or GONE or FROZEN
    pid: int | None
    uptime_seconds: float | None
    ports: Mapping[str, int]
    cpu_percent: float | None  # of one core, over the moment of the look, with all it started in turn
    rss_mb: float | None  # likewise
    restarts: int
    last_failure: str
    log: str

    @property
    def is_unwell(self) -> bool:
        """Whether it does not do its work, and is not on its way to that either."""
        return self.state in (ProcessState.FAILING, ProcessState.FAILED, GONE, FROZEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackTrouble:
    """What keeps a whole stack from its work."""

    what: str
    seen: str
    remedy: str


def stack_troubles(folder: StateFolder) -> list[StackTrouble]:
    """Return what is wrong with the supervisor itself, where one holds the folder, and with the disk."""
    found = []
    if folder.is_held() and (trouble := supervisor_trouble(folder)) is not None:
        found.append(trouble)
    if full := full_words(folder.path):
        found.append(StackTrouble(what="disk", seen=full, remedy="free space there, and everything goes on by itself"))
    return found


def supervisor_trouble(folder: StateFolder) -> StackTrouble | None:
    """Return that the supervisor stands still; None of one that does not, or does not live."""
    identity = folder.supervisor()
    if identity is None or not identity.is_alive():
        return None
    remedy = "thalweg down, then thalweg up"
    try:
        if psutil.Process(identity.pid).status() == psutil.STATUS_STOPPED:
            how, remedy = "is stopped by a signal", f"kill -CONT {identity.pid}, or {remedy}"
        elif (still_s := time.time() - supervisor_pulse(folder.path).stat().st_mtime) > STILL_AFTER_S:
            how = f"got no time for {still_s:.0f} s"
        else:
            return None
    except (psutil.Error, OSError):
        return None
    seen = f"process {identity.pid} stands still, it {how}: what ends is not started again"
    return StackTrouble(what="supervisor", seen=seen, remedy=remedy)


def supervisor_pulse(path: Path) -> Path:
    """Return what the supervisor of a state folder touches every second."""
    return path / "logs" / "supervisor.pulse"


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
    state, failure = record["state"], record["last_failure"]
    if not lives and record["pid"] is not None:
        state, failure = GONE, failure or "it ended"
    elif still := [process.pid for process in family if _is_stopped(process)]:
        state = FROZEN
        failure = f"it is stopped by a signal: kill -CONT {' '.join(map(str, still))} lets it go on"
    cpu_seconds = _cpu_seconds(family) - cpu_before
    return ProcessRow(
        name=record["name"],
        state=state,
        pid=record["pid"],
        uptime_seconds=round(time.time() - family[0].create_time(), 1) if lives else None,
        ports=record["ports"],
        cpu_percent=round(cpu_seconds / sample_seconds * 100, 1) if lives and sample_seconds else None,
        rss_mb=round(sum(map(_rss_bytes, family)) / 1e6, 1) if lives else None,
        restarts=record["restarts"],
        last_failure=failure,
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


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


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


def as_document(folder: StateFolder, rows: list[ProcessRow]) -> dict[str, Any]:
    """Return the document of ``ps --json``."""
    supervisor = folder.supervisor()
    alive = supervisor is not None and supervisor.is_alive() and folder.is_held()
    return {
        "state_folder": str(folder.path),
        "running": alive,
        "supervisor_pid": supervisor.pid if supervisor is not None and alive else None,
        "processes": [asdict(row) for row in rows],
        "trouble": [asdict(trouble) for trouble in stack_troubles(folder)],
    }
