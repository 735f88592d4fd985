"""What a job does beside its stream: in a thread, at an interval, never in front of a micro-batch."""

import logging
import threading
import time
from collections.abc import Callable

from prometheus_client import Gauge

from thalweg.jobs.runtime.health import WAITING_S
from thalweg.jobs.runtime.job import Stop

FAILING_SECONDS = Gauge(
    "thalweg_beside_failing_seconds",
    "How long a thread beside a stream has failed: what it keeps up to date is as old as that.",
    ["thread"],
)

log = logging.getLogger("thalweg.beside")

_failing: dict[str, tuple[float, str]] = {}
"""By thread of this process, like the metric: since when (monotonic seconds), and the last error."""


def failing_beside(now_s: float) -> dict[str, str]:
    """Return the threads that have failed for too long, each with words for an operator."""
    return {
        name: f"{name} has failed for {(now_s - since) // 60:.0f} min, and what it keeps up to date is as old: {error}"
        for name, (since, error) in list(_failing.items())
        if now_s - since >= WAITING_S
    }


def run_in_background(
    name: str, step: Callable[[], object], *, every_s: float, stop: Stop, close: Callable[[], None] | None = None
) -> None:
    """Start a thread that takes a step at an interval until asked to stop, and then once more.

    A step that fails is logged and tried again at the next turn; a step must therefore keep what it has not done.

    Args:
        name: of the thread, and in the log.
        step: what to do.
        every_s: pause between the end of a step and the next one.
        stop: ends the thread.
        close: called at the very end, to give up connections.
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
                since = _failing.get(name, (now_s, ""))[0]
                _failing[name] = (since, f"{type(error).__name__}: {str(error)[:300]}")
                FAILING_SECONDS.labels(name).set(now_s - since)
            if last:
                _failing.pop(name, None)
                if close is not None:
                    close()
                return

    stop.start(threading.Thread(target=run, name=name, daemon=True))
