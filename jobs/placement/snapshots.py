"""When a snapshot of the world is made: by a process of its own, which reads what this one has committed.

The world of the running job is not touched, and neither are its batches: the other process follows the ledger from the
last snapshot on, as a start does, and so proves on the way that a start from it works.
"""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from thalweg.jobs.runtime.background import run_in_background
from thalweg.jobs.runtime.job import Stop

LOOK_EVERY_S: Final = 2.0
AT_MOST_EVERY_S: Final = 30.0
"""From the beginning of one to that of the next."""
FIRST_AFTER_S: Final = 10.0
"""A start that had rows to follow makes the first one so soon: this life may be as short as the one before."""
LATE_TIMES: Final = 2
"""Times as many rows as one is made after: where a start had to follow so many, the last lives made none, and the first
of this one waits for nothing that is more urgent. A niced one gets no turn where a machine is never idle."""
TIMES_AS_LONG: Final = 2
"""And so many times as long as the last one took: with millions of live tasks a snapshot takes a core for minutes, and
a copy of the world's memory, so it would be made all the time. The rows of twice that time a start follows in less."""

NOT_NICED: Final = ("--set", "place.snapshot_niceness=0")

log = logging.getLogger("thalweg.place")


class SnapshotKeeper:
    """Counts what is committed, and lets a snapshot be made in time."""

    def __init__(
        self,
        warehouse: str,
        *,
        every_rows: int,
        every_s: float,
        stop: Stop,
        make: Callable[[Sequence[str], Stop], int] | None = None,
    ) -> None:
        """Begin to count.

        Args:
            warehouse: whose ledger.
            every_rows: a snapshot is made after so many rows; 0 never.
            every_s: and after so long, where there are any.
            stop: ends the thread, and a process that makes one.
            make: runs a command until it ends or stopping is asked for, and returns its exit code.
        """
        self._command = (sys.executable, "-m", "thalweg.jobs.snapshot", "--set", f"warehouse.path={warehouse}")
        self._every_rows = every_rows
        self._every_s = every_s
        self._stop = stop
        self._make = make or _run
        self._rows = 0
        self._lock = threading.Lock()
        self._last_s = time.monotonic()
        self._took_s = 0.0
        self._is_late = False

    def note(self, rows: int) -> None:
        """Count rows that were committed."""
        with self._lock:
            self._rows += rows

    def behind(self, rows: int) -> None:
        """Count rows that a start had to follow: where they are many, no life before this one was long enough."""
        self.note(rows)
        if self._every_rows and rows >= self._every_rows:
            self._last_s = min(self._last_s, time.monotonic() - AT_MOST_EVERY_S + FIRST_AFTER_S)
            self._is_late = rows >= LATE_TIMES * self._every_rows

    def start(self) -> None:
        """Look now and then whether it is time."""
        if self._every_rows:
            run_in_background("place-snapshot", self.step, every_s=LOOK_EVERY_S, stop=self._stop)

    def step(self) -> None:
        """Let a snapshot be made if it is time."""
        waited_s = time.monotonic() - self._last_s
        least_s = max(AT_MOST_EVERY_S, TIMES_AS_LONG * self._took_s)
        with self._lock:
            rows = self._rows
        due = rows >= self._every_rows and waited_s >= least_s
        if self._stop.asked() or not (due or (rows and waited_s >= max(self._every_s, TIMES_AS_LONG * self._took_s))):
            return
        self._last_s = time.monotonic()
        code = self._make((*self._command, *(NOT_NICED if self._is_late else ())), self._stop)
        self._took_s = time.monotonic() - self._last_s
        if code:
            if not self._stop.asked():
                log.error("no snapshot of the world was made", extra={"fields": {"exit_code": code}})
            return
        self._is_late = False
        with self._lock:
            self._rows -= rows


def _run(command: Sequence[str], stop: Stop) -> int:
    """Run a command; it ends with this process's wish to stop, and if it survives a kill of this one, in seconds."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if stop.wait(0.2):
                process.kill()
        return process.wait()
