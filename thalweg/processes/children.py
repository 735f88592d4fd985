"""Child processes as values (what to run) and as running things: started on a leash, logged, ended in order."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from thalweg.conf.readiness import READY_FILE, progress_file, pulse_file, trouble_in
from thalweg.conf.words import cut_short
from thalweg.processes import leash

LEASH = Path(leash.__file__)
# Put aside at a start when it is longer: a stack that is restarted for months must not fill the disk with its logs.
LOG_LIMIT_BYTES = 50_000_000
# Of the end of a log: the stack traces that follow upon a cause are some hundred KB.
SEARCHED_BYTES = 1_048_576
_SAYS_FULL = re.compile("No space left on device|Disk quota exceeded")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When to start a process again after it ended by itself, and how long to wait before."""

    max_restarts: int = 5
    # What was never ready will most likely not be: a wrong setting should be told within seconds.
    max_restarts_before_ready: int = 1
    first_delay_seconds: float = 1.0
    max_delay_seconds: float = 30.0
    # A process that ran this long is healthy: what happens later is a new failure, not the same one repeated.
    healthy_after_seconds: float = 60.0

    def delay_seconds(self, restarts: int) -> float:
        """Return the wait before restart number ``restarts + 1``: doubling, so a broken process does not spin."""
        return min(self.first_delay_seconds * 2.0**restarts, self.max_delay_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """A process to run: what, with what, when it counts as ready, and what it needs first."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)  # beside the inherited environment
    needs: tuple[str, ...] = ()  # names of the processes that must be ready before and end after this one
    ports: Mapping[str, int] = field(default_factory=dict)  # what it listens on, for people and for `ps`
    is_ready: Callable[[], bool] | None = None  # None: ready as soon as it runs, or when it says so itself
    announces_ready: bool = False  # it calls thalweg.conf.readiness.announce_ready()
    still_after_seconds: float = 20.0  # so long its pulse may stand still (keep_pulse); one without a pulse never does
    ready_timeout_seconds: float = 60.0  # from its start, or from its last word of progress (announce_progress)
    stop_timeout_seconds: float = 15.0
    restart: RestartPolicy = RestartPolicy()
    may_fail: bool = False  # nobody waits until it is ready, and it is never given up: what it failed with is told
    again: Callable[[], "ProcessSpec"] | None = None
    """Makes the spec anew before each start of a process that was never ready: what was free when it was first made,
    a port above all, may be somebody else's by now. What has been ready keeps its spec, for others know its address."""


class NeverReadyError(Exception):
    """A check from outside found that the process cannot become ready as it is; the message says what was seen."""


class ChildFailedError(Exception):
    """A child process ended, or did not become ready in time; the message ends with the last lines of its log."""

    def __init__(self, name: str, what: str, log: Path, log_begins: int = 0) -> None:
        super().__init__(f"{name} {what}. Last lines of {log}:\n{last_lines(log, begins=log_begins)}")


class Child:
    """A running process that ends with its parent."""

    def __init__(self, spec: ProcessSpec, log: Path) -> None:
        """Start it. Its output is appended to ``log``; a very long one is put aside first."""
        self.spec = spec
        self.log = log
        self._stop_by_seconds = 0.0
        self._announcement = log.with_suffix(".ready")
        log.parent.mkdir(parents=True, exist_ok=True)
        self._announcement.unlink(missing_ok=True)
        progress_file(self._announcement).unlink(missing_ok=True)
        pulse_file(self._announcement).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a log that cannot be put aside is no reason not to start
            if log.stat().st_size > LOG_LIMIT_BYTES:
                log.rename(log.with_suffix(".log.old"))
        with log.open("ab") as output:
            self.log_begins = output.tell()  # what stands before is an earlier start's
            # A group of its own: Ctrl-C in the terminal reaches the supervisor only, which ends children in order.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *spec.argv],
                env={**os.environ, READY_FILE: str(self._announcement), **spec.env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Return the process id, which is its group's too."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return the exit code (negative: the signal that ended it), or None while it runs."""
        return self._process.poll()

    def is_ready(self) -> bool:
        """Tell whether it is ready now, by its own word and by the check from outside, where it has them.

        Raises:
            NeverReadyError: It cannot become ready as it is.
        """
        if self.spec.announces_ready and not self._announcement.exists():
            return False
        return self.spec.is_ready is None or self.spec.is_ready()

    def trouble(self) -> str:
        """Return why it does not do its work although it runs, in its own words; "" where it does."""
        return trouble_in(self._announcement) if self.spec.announces_ready else ""

    def pulse(self) -> int:
        """Return a number that changes as long as it gets to run; 0 of one that keeps no pulse."""
        try:
            return pulse_file(self._announcement).stat().st_mtime_ns
        except OSError:
            return 0

    def progress(self) -> str:
        """Return how far it says it is on its way to being ready; empty if it says nothing."""
        try:
            return progress_file(self._announcement).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def wait_ready(self) -> None:
        """Wait until the process is ready.

        Raises:
            ChildFailedError: It ended first, or was not ready within its time.
        """
        deadline = time.monotonic() + self.spec.ready_timeout_seconds
        while True:
            code = self.exit_code()
            if code is not None:
                raise self._failed(f"ended with code {code} before it was ready")
            try:
                if self.is_ready():
                    return
            except NeverReadyError as error:
                raise self._failed(f"cannot become ready: {error}") from error
            if time.monotonic() > deadline:
                raise self._failed(f"was not ready within {self.spec.ready_timeout_seconds:.0f} s")
            time.sleep(0.05)

    def _failed(self, what: str) -> ChildFailedError:
        return ChildFailedError(self.spec.name, what, self.log, self.log_begins)

    def stop(self) -> bool:
        """End the process: ask, wait as long as it may take, then kill what is left of its group.

        Returns:
            Whether it ended when asked.
        """
        self.ask_to_stop()
        return self.wait_stopped()

    def ask_to_stop(self) -> None:
        """Ask the process to end in order; it may take its stop_timeout_seconds from now."""
        self._stop_by_seconds = time.monotonic() + self.spec.stop_timeout_seconds
        if self.exit_code() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait_stopped(self) -> bool:
        """Wait for what was asked, then kill what is left; tell whether it ended when asked."""
        try:
            self._process.wait(max(0.0, self._stop_by_seconds - time.monotonic()))
            orderly = True
        except subprocess.TimeoutExpired:
            orderly = False
        self.kill()
        return orderly

    def kill(self) -> None:
        """End the process and its group at once."""
        kill_group(self.pid)
        self._process.wait()


def kill_group(group: int) -> None:
    """Kill whatever is left of a process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def last_lines(log: Path, count: int = 12, begins: int = 0) -> str:
    """Return the end of a log, for an error message; where it says that a disk is full, that line alone.

    What a disk that is full brings about is told at length behind it, and explains nothing.

    Args:
        log: The file.
        count: Lines, at most.
        begins: Where in the file those of interest begin.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(begins, log.stat().st_size - SEARCHED_BYTES))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"(no log: {error.strerror})"
    # Within a line of JSON a stack trace's lines are told apart by the two characters of an escape.
    full = [line for line in re.split(r"\n|\\n", text) if _SAYS_FULL.search(line)]
    return cut_short(full[-1]) if full else "\n".join(text[-8192:].splitlines()[-count:])
