"""Files that are written and wait for their commit: no sweep may take them for leftovers.

A sweep in the writer's process asks this list. One in another process goes by the files' age, so a writer that lets a
file wait keeps it young; should it have slept meanwhile and the file be gone, the commit finds that out.
"""

import os
import threading
from collections.abc import Iterable


class Pending:
    """The list of one table. Any thread may use it."""

    def __init__(self, table_uri: str) -> None:
        """Begin with none.

        Args:
            table_uri: the table's address.
        """
        self._uri = table_uri
        self._lock = threading.Lock()
        self._paths: set[str] = set()

    def add(self, paths: Iterable[str]) -> None:
        """Note files that a commit may name; paths are relative to the table."""
        with self._lock:
            self._paths.update(paths)

    def discard(self, paths: Iterable[str]) -> None:
        """Forget files that are committed, or deleted."""
        with self._lock:
            self._paths.difference_update(paths)

    def paths(self) -> frozenset[str]:
        """Give them."""
        with self._lock:
            return frozenset(self._paths)

    def keep_young(self) -> None:
        """Renew the files' age; on an object store it cannot be renewed, and need not: a retention there is an hour."""
        if "://" in self._uri:
            return
        for path in self.paths():
            try:
                os.utime(f"{self._uri}/{path}")
            except FileNotFoundError:
                continue  # deleted by hand, or by a sweep while this process slept
