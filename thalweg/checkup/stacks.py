"""Look at the state folder: ours, of this format, and what its record says really runs. Nothing is written."""

from collections.abc import Iterator
from pathlib import Path

import psutil

from thalweg.checkup.finding import Finding, fine, problem, warning
from thalweg.stack.leftovers import leftovers
from thalweg.stack.process_table import process_rows
from thalweg.stack.state import MARKER, StateFolder, StateFolderError
from thalweg.sync.ledger.put_back import put_back_in


def state_finding(path: Path) -> tuple[Finding, dict[str, int]]:
    """Judge the state folder; return the ports of the stack that runs in it, too (empty if none does)."""
    if not path.exists() or (not (path / MARKER).exists() and not any(path.iterdir())):
        return fine("state folder", f"{path} is new"), {}
    try:
        StateFolder.check(path)
    except StateFolderError as error:
        return problem("state folder", str(error), "See above"), {}
    folder = StateFolder(path)
    rows = process_rows(folder, sample_seconds=0.0)
    if folder.is_held():
        unwell = [row for row in rows if row.state not in ("ready", "stopped")]
        if unwell:
            told = ", ".join(
                f"{row.name} is {row.state}" + (f" ({row.last_failure})" if row.state == "failing" else "")
                for row in unwell
            )
            if any(row.state == "failing" for row in unwell):
                return problem("state folder", f"a stack runs in {path}, but {told}", f"See {unwell[0].log}"), {}
            return warning("state folder", f"a stack runs in {path}, but {told}", f"See {unwell[0].log}"), {}
        return fine("state folder", f"a stack runs in {path}"), {n: p for row in rows for n, p in row.ports.items()}
    left: list[psutil.Process] = leftovers(folder)
    if left:
        told = ", ".join(str(process.pid) for process in left)
        return warning("state folder", f"the stack in {path} was cut off and left processes {told}", "thalweg down"), {}
    if any(row.state == "gone" for row in rows):
        return fine("state folder", f"the last stack in {path} was cut off; `thalweg up` goes on from there"), {}
    return fine("state folder", f"no stack runs in {path}"), {}


def restored_findings(path: Path) -> Iterator[Finding]:
    """Tell of a restore that was cut off, and of one that no driver has followed up yet."""
    try:
        StateFolder.check_whole(path)
    except StateFolderError as error:
        yield problem("restore", str(error), "See above")
    if put_back := put_back_in(path / "warehouse"):
        yield warning("restore", put_back.sentence, "Nothing; the next start does so")
