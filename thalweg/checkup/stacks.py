"""Look at the state folder: ours, of this format, and what its record says really runs. Nothing is written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from thalweg.checkup.finding import Finding, fine, problem, warning
from thalweg.processes.supervisor import ProcessState
from thalweg.stack.leftovers import leftovers
from thalweg.stack.process_table import GONE, ProcessRow, process_rows, supervisor_trouble
from thalweg.stack.state import MARKER, StateFolder, StateFolderError
from thalweg.sync.ledger.put_back import put_back_in

_LISTENS = (ProcessState.READY, ProcessState.FAILING)
"""States of a process whose ports are its own: what was never ready may have found another's there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackNow:
    """What of a stack lives, whether it is well or not: whoever asks this may not take trouble for absence."""

    runs: bool = False
    """A supervisor holds the state folder."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """By name, of those of its processes that live and have been ready."""
    left: frozenset[int] = frozenset()
    """Processes that one which was cut off has left."""


def state_finding(path: Path) -> tuple[Finding, StackNow]:
    """Judge the state folder; tell what lives in it, too."""
    if not path.exists() or (not (path / MARKER).exists() and not any(path.iterdir())):
        return fine("state folder", f"{path} is new"), StackNow()
    try:
        StateFolder.check(path)
    except StateFolderError as error:
        return problem("state folder", str(error), "See above"), StackNow()
    folder = StateFolder(path, only_look=True)
    rows = process_rows(folder, sample_seconds=0.0)
    if folder.is_held():
        ports = {name: port for row in rows if row.state in _LISTENS for name, port in row.ports.items()}
        return _running(path, rows), StackNow(runs=True, ports=ports)
    left: list[psutil.Process] = leftovers(folder)
    if left:
        told = ", ".join(str(process.pid) for process in left)
        seen = f"the stack in {path} was cut off and left processes {told}"
        return warning("state folder", seen, "thalweg down"), StackNow(left=frozenset(one.pid for one in left))
    if any(row.state == GONE for row in rows):
        seen = f"the last stack in {path} was cut off; `thalweg up` goes on from there"
        return fine("state folder", seen), StackNow()
    return fine("state folder", f"no stack runs in {path}"), StackNow()


def _running(path: Path, rows: list[ProcessRow]) -> Finding:
    """Judge a stack that runs."""
    unwell = [row for row in rows if row.state not in (ProcessState.READY, ProcessState.STOPPED)]
    if not unwell:
        return fine("state folder", f"a stack runs in {path}")
    graver = [row for row in unwell if row.is_unwell]
    told = ", ".join(
        f"{row.name} is {row.state}" + (f" ({row.last_failure})" if row.last_failure else "") for row in unwell
    )
    judge = problem if graver else warning
    return judge("state folder", f"a stack runs in {path}, but {told}", f"See {(graver or unwell)[0].log}")


def supervisor_findings(path: Path) -> Iterator[Finding]:
    """Tell that the supervisor of a running stack stands still."""
    if trouble := supervisor_trouble(StateFolder(path, only_look=True)):
        yield problem(trouble.what, trouble.seen, trouble.remedy)


def restored_findings(path: Path) -> Iterator[Finding]:
    """Tell of a restore that was cut off, and of one that no driver has followed up yet."""
    try:
        StateFolder.check_whole(path)
    except StateFolderError as error:
        yield problem("restore", str(error), "See above")
    if put_back := put_back_in(path / "warehouse"):
        yield warning("restore", put_back.sentence, "Nothing; the next start does so")
