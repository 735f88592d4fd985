"""Two versions of a model on one edge: which one answers a request, and what came of it, for many threads.

The coin and the counts are those of `learning/rollout/reporter.py`. Beside it, this remembers which version answered
the newest requests, for truth becomes known later.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from thalweg.learning.rollout.records import DesiredModel, ReportedModel
from thalweg.learning.rollout.reporter import Arm, Reporter
from thalweg.serving.edge_records import EdgeRecords

REMEMBERED: Final = 10_000
"""Requests whose truth may still be told: a quarter of an hour at ten requests a second."""
MOST_ID: Final = 256
"""Characters of an id that is remembered: what callers make up must not fill the memory."""


class Toss(NamedTuple):
    """How the coin fell for a request."""

    number: int
    """Of the roll-out."""
    arm: Arm
    request: str
    """Its id."""


class VersionTrial:
    """Of one model on one edge. Threads may share it; nothing in it waits for anybody."""

    def __init__(self, records: EdgeRecords, *, new_id: Callable[[], str], remembered: int = REMEMBERED) -> None:
        """Go on from what was reported.

        Args:
            records: of the edge, complete.
            new_id: names a request that has no id.
            remembered: newest requests whose truth may be told.
        """
        self._reporter = Reporter(records.model, records.edge, read=records.read, write=lambda *_: None)
        self._new_id, self._most = new_id, remembered
        self._lock = threading.Lock()
        self._wanted: DesiredModel | None = None
        self._answered: OrderedDict[str, Toss] = OrderedDict()

    @property
    def trouble(self) -> str:
        """Why the record of what is desired cannot be obeyed; empty where it can."""
        return self._reporter.trouble or ""

    def look(self) -> DesiredModel | None:
        """Return what is desired by now; None where nothing is yet."""
        with self._lock:
            before, self._wanted = self._wanted, self._reporter.desired()
            if before is not None and self._wanted is not None and before.number != self._wanted.number:
                self._answered.clear()
            return self._wanted

    def toss(self, request: str, last: str, new: str) -> Toss | None:
        """Let the coin fall for a request.

        Args:
            request: its id; empty for one that has none.
            last: digest of the version that serves.
            new: digest of the version that is held beside it.

        Returns:
            None where these two are not what is desired: then there is nothing to compare, and the version that serves
            answers.
        """
        with self._lock:
            wanted = self._wanted
            if wanted is None or wanted.beside is None or (wanted.serve.sha256, wanted.beside.sha256) != (last, new):
                return None
            named = request or self._new_id()
            return Toss(wanted.number, self._reporter.arm(named), named)

    def answered(self, toss: Toss, latency_ms: float) -> None:
        """Count an answer of the version that was to give it."""
        with self._lock:
            if not self._is_current(toss):
                return
            self._reporter.answered(toss.arm, latency_ms=latency_ms)
            if len(toss.request) > MOST_ID:
                return
            self._answered[toss.request] = toss
            self._answered.move_to_end(toss.request)
            if len(self._answered) > self._most:
                self._answered.popitem(last=False)

    def failed(self, toss: Toss) -> None:
        """Count a request that the version had no answer to."""
        with self._lock:
            if self._is_current(toss):
                self._reporter.failed(toss.arm)

    def judged(self, request: str, *, correct: bool) -> bool:
        """Count the truth of an answer; return False where the request is not remembered, or was judged before."""
        with self._lock:
            toss = self._answered.pop(request, None)
            if toss is None or not self._is_current(toss):
                return False
            self._reporter.judged(toss.arm, wrong=not correct)
            return True

    def report(self, now_ms: int, *, version: str, sha256: str) -> ReportedModel:
        """Say how it stands.

        Args:
            now_ms: the time.
            version: that serves as the last good one; empty where none does.
            sha256: of its bytes.
        """
        with self._lock:
            return self._reporter.reported(now_ms, version=version, sha256=sha256)

    def _is_current(self, toss: Toss) -> bool:
        """Tell whether the roll-out in which the coin fell still goes on."""
        return self._wanted is not None and self._wanted.beside is not None and self._wanted.number == toss.number
