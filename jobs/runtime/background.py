"""What a job does beside its stream: in a thread, at an interval, never in front of a micro-batch."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import Gauge

from thalweg.conf.words import cut_short
from thalweg.jobs.runtime.health import WAITING_S
from thalweg.jobs.runtime.job import Stop

FAILING_SECONDS = Gauge(
    "thalweg_beside_failing_seconds",
    "How long a thread beside a stream has failed: what it keeps up to date is as old as that.",
    ["thread"],
)

log = logging.getLogger("thalweg.beside")


@dataclass(frozen=True, slots=True)
class _Failing:
    """A thread of this process whose last step failed."""

    since_s: float
    """Monotonic."""
    error: str
    keeps: str
    told_after_s: float


_failing: dict[str, _Failing] = {}
"""By thread, like the metric."""


def failing_beside(now_s: float) -> dict[str, str]:
    """Return the threads that have failed for too long, each with words for an operator."""
    return {
        name: _words(name, found, now_s - found.since_s)
        for name, found in list(_failing.items())
        if now_s - found.since_s >= found.told_after_s
    }


def _words(name: str, found: _Failing, failed_s: float) -> str:
    what = found.keeps or "what it keeps up to date"
    # Of seconds the words would be others at each look.
    age = f"{failed_s // 60:.0f} min" if failed_s >= 60 else "less than a minute"
    return f"{name} has failed for {age}, and {what} is as old: {found.error}"


def run_in_background(
    name: str,
    step: Callable[[], object],
    *,
    every_s: float,
    stop: Stop,
    close: Callable[[], None] | None = None,
    keeps: str = "",
    told_after_s: float = WAITING_S,
) -> None:
    """Start a thread that takes a step at an interval until asked to stop, and then once more.

    A step that fails is logged and tried again at the next turn; a step must therefore keep what it has not done.

    Args:
        name: of the thread, and in the log.
        step: what to do.
        every_s: pause between the end of a step and the next one.
        stop: ends the thread.
        close: called at the very end, to give up connections.
        keeps: what it keeps up to date, in words; empty where the name says so.
        told_after_s: how long it may fail before that is trouble.
    """

    def run() -> None:
        _failing.pop(name, None)  # of an earlier life of its query
        while True:
            last = stop.wait(every_s)
            try:
                step()
                if _failing.pop(name, None) is not None:
                    log.info("%s works again", name)
                FAILING_SECONDS.labels(name).set(0)
            except Exception as error:  # the next turn may succeed: a disk is freed, a broker returns
                now_s = time.monotonic()
                if name not in _failing:
                    log.error("%s failed and is tried again every %g s", name, every_s, exc_info=error)
                before = _failing.get(name)
                since_s = now_s if before is None else before.since_s
                words = f"{type(error).__name__}: {cut_short(str(error))}"
                _failing[name] = _Failing(since_s, words, keeps, told_after_s)
                FAILING_SECONDS.labels(name).set(now_s - since_s)
            if last:
                _failing.pop(name, None)
                if close is not None:
                    close()
                return

    stop.start(threading.Thread(target=run, name=name, daemon=True))
