"""Do a step until it is done: a full disk or a missing broker is waited for, what is wrong stays wrong."""

import logging
from typing import Final

from deltalake.exceptions import DeltaError

from thalweg.conf.words import cut_short
from thalweg.jobs.microbatch import metrics
from thalweg.jobs.microbatch.outcome import BatchStep
from thalweg.jobs.runtime.health import Pulse
from thalweg.jobs.runtime.job import Stop
from thalweg.streams.broker.errors import BrokerUnavailableError, NotAcknowledgedError

RETRYABLE: Final = (OSError, DeltaError, BrokerUnavailableError, NotAcknowledgedError)
"""A disk without space, a store that cannot be reached, a broker that does not answer: they may do the same thing a
moment later. Every other error is final: another writer, a record that is too large, a mistake of ours."""

RETRY_AFTER_S: Final = 0.5
"""Between two tries: short enough that a freed disk is used at once, long enough not to fill the log."""
SAY_AGAIN_EVERY: Final = 60
"""Tries: half a minute."""


class Retry:
    """Does one job's steps."""

    def __init__(self, job: str, stop: Stop, pulse: Pulse) -> None:
        """Hold them; being asked to stop ends the waiting, and the pulse is told what is waited for."""
        self._job = job
        self._stop = stop
        self._pulse = pulse
        self._log = logging.getLogger(f"thalweg.{job}")

    def until_done(self, name: str, step: BatchStep) -> None:
        """Do a step, again for as long as only the outside world prevents it.

        Raises:
            Exception: a final error, or any while asked to stop; Spark repeats the batch when the query starts again.
        """
        target = step.target or name
        tries = 0
        while True:
            try:
                if not (tries and step.done()):
                    step.act()
                break
            except RETRYABLE as error:
                self._pulse.hindered(_words(target, error))
                if tries % SAY_AGAIN_EVERY == 0:
                    self._log.error("%s", _words(target, error))
                metrics.STEP_FAILURES.labels(self._job, name).inc()
                tries += 1
                if self._stop.wait(RETRY_AFTER_S):
                    raise
        if tries:
            self._pulse.hindered(None)
            self._log.info("%s: works again after %d tries; nothing was lost", target, tries)
        step.then()


def _words(target: str, error: Exception) -> str:
    hint = "free some space" if "space" in str(error).lower() else "see the cause"
    return (
        f"{target} cannot be written ({type(error).__name__}: {cut_short(str(error))}). The batch is kept and "
        f"tried again every {RETRY_AFTER_S:g} s, nothing is lost; {hint}"
    )
