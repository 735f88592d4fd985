"""Whether a query that is started again and again does its work: to who sees only processes, a crash loop is ready."""

from collections import deque
from typing import Final

FAILURES: Final = 3
WITHIN_S: Final = 600.0
"""So many failures within so long are a crash loop; a broker's restart or a full disk give one or two. A query is well
again when the first of them is that old."""


class CrashLoops:
    """Counts the failures of each query. Time is an argument, in seconds of any clock that only goes forward."""

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
            job: f"{job} failed {len(times)} times within {now_s - times[0]:.0f} s, the last: {self._last[job][:300]}"
            for job, times in self._failures.items()
            if len(times) == FAILURES and now_s - times[0] <= WITHIN_S
        }
