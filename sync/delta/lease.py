"""Who may drive a warehouse: a lock on its folder for as long as the process lives.

It gives the second driver a clear refusal at once. Correctness does not rest on it: on object stores, where it does not
exist, and for a driver that slept through the loss of its lock, the ledger's own fence decides (`sync.ledger.ledger`).
"""

import fcntl
import json
import os
from pathlib import Path
from typing import IO

_held: dict[Path, IO[str]] = {}  # open for as long as the process lives, or the lock is gone


class LeaseHeldError(Exception):
    """Another process drives this warehouse."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(
            f"warehouse {path.parent}: process {holder} already drives it; allowed is one at a time. Stop that one, or "
            "name another warehouse with --set warehouse.path=…"
        )
        self.holder = holder


def hold_lease(warehouse: str, name: str) -> None:
    """Hold the lease `name` on a local warehouse until this process ends; does nothing for an object store.

    Raises:
        LeaseHeldError: another process holds it.
    """
    if "://" in warehouse:
        return
    folder = Path(warehouse)
    folder.mkdir(parents=True, exist_ok=True)
    path = (folder / f"{name}.lease").resolve()
    if path in _held:
        return
    lease = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lease.seek(0)
        raise LeaseHeldError(path, _holder(lease.read())) from None
    lease.seek(0)
    lease.truncate()
    json.dump({"pid": os.getpid()}, lease)
    lease.flush()
    _held[path] = lease


def _holder(text: str) -> str:
    try:
        return str(json.loads(text)["pid"])
    except (ValueError, KeyError, TypeError):
        return "(unknown)"
