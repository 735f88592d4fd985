"""Whether a job does its work: to who sees only processes, a crash loop and a batch that hangs are ready.

Time is an argument, in seconds of any clock that only goes forward.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from thalweg.conf.words import cut_short

FAILURES: Final = 3
WITHIN_S: Final = 600.0
"""So many failures within so long are a crash loop; a broker's restart or a full disk give one or two. A query is well
again when the first of them is that old."""


TOO_LONG_S: Final = 120.0
"""A micro-batch that takes longer hangs, or waits for a disk or a broker: the largest after an outage takes a tenth."""
HINDERED_S: Final = 20.0
"""So long a step may be tried again, and all is well: a broker that is started anew is back within it."""
WAITING_S: Final = 60.0
"""So long a query may wait to be started, and what is kept beside a stream may stand still, and all is well: a broker
and an object store come back within it, or somebody has to look."""
STALE_S: Final = 10.0
"""So long what people read may not be written: `tasks` that do not know an end look like a task that runs."""


class Pulse:
    """Knows since when a job's micro-batch has been taken, and what hinders it."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._began_s: float | None = None
        self._hindered: tuple[float, str] | None = None

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Around each micro-batch, its reading too."""
        self._began_s = self._clock_s()
        try:
            yield
        finally:
            self._began_s = self._hindered = None

    def hindered(self, why: str | None) -> None:
        """Note that a step is prevented by the world outside, or with None that it is done."""
        if why is None:
            self._hindered = None
        else:
            self._hindered = (self._clock_s() if self._hindered is None else self._hindered[0], why)

    def trouble(self, job: str) -> str | None:
        """Say that a batch hangs, and on what, where that is known; None where none does."""
        hindered, began_s = self._hindered, self._began_s
        if hindered is not None and self._clock_s() - hindered[0] >= HINDERED_S:
            return f"{job} stands still: {hindered[1]}"
        if began_s is None or (took_s := self._clock_s() - began_s) < TOO_LONG_S:
            return None
        return f"{job} has been busy with one micro-batch for more than {took_s // 60:.0f} min"


class BlockedStarts:
    """Knows which queries cannot be started, since when, and why."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[float, str]] = {}

    def note(self, job: str, why: str | None, now_s: float) -> None:
        """Note that a query could not be started, or with None that it was."""
        if why is None:
            self._since.pop(job, None)
        else:
            self._since[job] = (self._since.get(job, (now_s, ""))[0], why)

    def failing(self, now_s: float) -> dict[str, str]:
        """Return the queries that have waited for too long, each with words for an operator."""
        return {
            job: f"{job} cannot be started since {(now_s - since) // 60:.0f} min: {cut_short(why)}"
            for job, (since, why) in self._since.items()
            if now_s - since >= WAITING_S
        }


class CrashLoops:
    """Counts the failures of each query."""

    def __init__(self) -> None:
        self._failures: dict[str, deque[float]] = {}
        self._last: dict[str, str] = {}

    def note(self, job: str, error: str, now_s: float) -> None:
        """Note that a query failed."""
        self._failures.setdefault(job, deque(maxlen=FAILURES)).append(now_s)
        self._last[job] = error

    def failing(self, now_s: float) -> dict[str, str]:
        """Return the queries in a crash loop, each with words for an operator."""
        return {
            job: f"{job} failed {len(times)} times within {times[-1] - times[0]:.0f} s, the last: "
            + cut_short(self._last[job])
            for job, times in self._failures.items()
            if len(times) == FAILURES and now_s - times[0] <= WITHIN_S
        }
