"""What a job does beside its stream: in a thread, at an interval, never in front of a micro-batch."""

import logging
import threading
import time
from collections.abc import Callable

from prometheus_client import Gauge

from thalweg.jobs.runtime.job import Stop

FAILING_SECONDS = Gauge(
    "thalweg_beside_failing_seconds",
    "How long a thread beside a stream has failed: what it keeps up to date is as old as that.",
    ["thread"],
)

log = logging.getLogger("thalweg.beside")


def run_beside(
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
        failing_since: float | None = None
        while True:
            last = stop.wait(every_s)
            try:
                step()
                if failing_since is not None:
                    log.info("%s works again", name)
                failing_since = None
                FAILING_SECONDS.labels(name).set(0)
            except Exception as error:  # the next turn may succeed: a disk is freed, a broker returns
                if failing_since is None:
                    log.error("%s failed and is tried again every %g s", name, every_s, exc_info=error)
                    failing_since = time.monotonic()
                FAILING_SECONDS.labels(name).set(time.monotonic() - failing_since)
            if last:
                if close is not None:
                    close()
                return

    stop.start(threading.Thread(target=run, name=name, daemon=True))
