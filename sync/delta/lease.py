"""Who may drive a warehouse: a lock on its folder for as long as the process lives, and a beat while it works.

It gives the second driver a clear refusal at once, or tells it to stand by. Correctness does not rest on it: on object
stores, where it does not exist, and for a driver that slept through the loss of its lock, the ledger's own fence
decides (`sync.ledger.ledger`).
"""

import fcntl
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

_held: dict[Path, IO[str]] = {}  # open for as long as the process lives, or the lock is gone


class LeaseHeldError(Exception):
    """Another process drives this warehouse."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(
            f"warehouse {path.parent}: process {holder} already drives it; allowed is one at a time. Stop that one, "
            "name another warehouse with --set warehouse.path=…, or let this one stand by with "
            "--set place.standby=true"
        )
        self.holder = holder


def hold_lease(warehouse: str, name: str) -> None:
    """Hold the lease `name` on a local warehouse until this process ends; does nothing for an object store.

    Raises:
        LeaseHeldError: another process holds it.
    """
    if "://" in warehouse:
        return
    path = _path(warehouse, name)
    if path in _held:
        return
    lease = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lease.seek(0)
        holder = _holder(lease.read())
        lease.close()
        raise LeaseHeldError(path, holder) from None
    lease.seek(0)
    lease.truncate()
    json.dump({"pid": os.getpid()}, lease)
    lease.flush()
    _held[path] = lease


def beat(warehouse: str, name: str) -> None:
    """Show that the holder works, once; for a lease that was taken over from one that does not, try to hold it, too."""
    if "://" in warehouse:
        return
    with suppress(LeaseHeldError):  # its holder stands still, and was fenced
        hold_lease(warehouse, name)
    os.utime(_path(warehouse, name))


class LeaseWatch:
    """Looks at a lease of somebody else's."""

    def __init__(self, warehouse: str, name: str, clock: Callable[[], int]) -> None:
        """Begin to look.

        Args:
            warehouse: a local folder.
            name: of the lease.
            clock: steady, in milliseconds.
        """
        self._warehouse = warehouse
        self._name = name
        self._clock = clock
        self._seen: tuple[int, int] | None = None  # its time, which may be any clock's, and when that was first seen

    def is_free(self) -> bool:
        """Tell whether nobody holds the lease any more; if so, this process does now."""
        try:
            hold_lease(self._warehouse, self._name)
        except LeaseHeldError:
            return False
        return True

    def still_ms(self) -> int:
        """Tell for how long its holder has not shown that it works."""
        changed = _path(self._warehouse, self._name).stat().st_mtime_ns
        if self._seen is None or self._seen[0] != changed:
            self._seen = changed, self._clock()
        return self._clock() - self._seen[1]


def _path(warehouse: str, name: str) -> Path:
    folder = Path(warehouse)
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / f"{name}.lease").resolve()


def _holder(text: str) -> str:
    try:
        return str(json.loads(text)["pid"])
    except (ValueError, KeyError, TypeError):
        return "(unknown)"
