"""Look at a warehouse's leases: who drives it. Only the kernel's list of locks is read; trying a lock would be one."""

import json
from pathlib import Path

from thalweg.checkup.finding import Finding, fine, warning
from thalweg.checkup.stacks import StackNow

KERNEL_LOCKS = Path("/proc/locks")


def lease_findings(warehouse: str, stack: StackNow) -> list[Finding]:
    """Judge every lease of a local warehouse.

    Args:
        warehouse: Folder or URI.
        stack: Of the state folder; its jobs hold the leases rightly, also while they are in trouble.
    """
    if "://" in warehouse or not Path(warehouse).is_dir() or not KERNEL_LOCKS.is_file():
        return []
    return [_judge(lease, stack) for lease in sorted(Path(warehouse).glob("*.lease"))]


def _judge(lease: Path, stack: StackNow) -> Finding:
    check = f"lease: {lease.stem}"
    holder = lock_holder(lease)
    if holder is None:
        return fine(check, f"nobody holds it (last: process {_last_holder(lease)}); it needs no clearing")
    if stack.runs:
        return fine(check, f"held by process {holder}")
    if holder in stack.left:
        return warning(check, f"held by process {holder}, which the stack that was cut off has left", "thalweg down")
    return warning(
        check,
        f"process {holder} drives {lease.parent}, and no stack of the state folder runs: `thalweg up` would be refused",
        f"If it should not: kill {holder}",
    )


def lock_holder(file: Path) -> int | None:
    """Return the process that holds a whole-file lock on ``file``, or None."""
    inode = str(file.stat().st_ino)
    for line in KERNEL_LOCKS.read_text(encoding="ascii").splitlines():
        # proc(5): number, class, mode, kind, process, major:minor:inode, range; a waiting one has "->" second.
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
            return int(fields[4])
    return None


def _last_holder(lease: Path) -> object:
    try:
        return json.loads(lease.read_text(encoding="utf-8"))["pid"]
    except (ValueError, KeyError, TypeError):
        return "unknown"
