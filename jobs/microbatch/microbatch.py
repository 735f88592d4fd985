"""The one body of every micro-batch: read, decide, do the steps in their declared order, then upkeep.

Safe to repeat, because every step is: Spark keeps a batch until it has ended, and gives it again to the next life of
the query. What the outside world prevents is waited for (`retry`); what is wrong ends this life, in few words.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Final, Generic

from thalweg.jobs.microbatch import metrics
from thalweg.jobs.microbatch.dead_letters import DeadLetters
from thalweg.jobs.microbatch.outcome import DEAD_LETTERS, BatchId, BatchOutcome, BatchStep
from thalweg.jobs.microbatch.reading import Records
from thalweg.jobs.microbatch.retry import Retry
from thalweg.jobs.runtime.health import Pulse
from thalweg.jobs.runtime.job import Stop

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

LONGEST_ERROR: Final = 500
"""Characters. Spark searches an error's text with a recursive pattern: a long one, as of a failed Spark job, overflows
the stack of the query's thread, which then dies without a word."""


class BatchFailedError(Exception):
    """A micro-batch could not be taken; names the cause in a few words, the log has all of it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {str(error)[:LONGEST_ERROR]}")


class Microbatch(Generic[Records]):
    """Takes one job's micro-batches, one at a time; called by Spark's `foreachBatch`."""

    def __init__(
        self,
        *,
        job: str,
        order: Sequence[str],
        read: "Callable[[DataFrame, int], Records]",
        decide: Callable[[Records, BatchId], BatchOutcome],
        dead_letters: DeadLetters,
        stop: Stop,
        pulse: Pulse | None = None,
        around: Sequence[Callable[[], AbstractContextManager[None]]] = (),
        upkeep: Callable[[], None] = lambda: None,
    ) -> None:
        """Put a job together.

        Args:
            job: its name, for the log and the metrics.
            order: the names of its steps, DEAD_LETTERS among them, in the order in which they are done.
            read: gives a batch's records (`Reading`).
            decide: says what follows from them; the one part that is the job's own.
            dead_letters: takes what was refused.
            stop: ends a batch that waits.
            pulse: told what is done, so that somebody sees where it hangs; None tells nobody.
            around: entered before a batch and left after it.
            upkeep: called after each batch, in the thread that commits.
        """
        self._job = job
        self._order = tuple(order)
        self._read = read
        self._decide = decide
        self._dead_letters = dead_letters
        self._pulse = pulse or Pulse()
        self._retry = Retry(job, stop, self._pulse)
        self._around = tuple(around)
        self._upkeep = upkeep
        self._log = logging.getLogger(f"thalweg.{job}")

    def __call__(self, frame: "DataFrame", batch_id: int) -> None:
        """Take one micro-batch from Spark.

        Raises:
            BatchFailedError: it could not be taken; Spark repeats it when the query is started again.
        """
        try:
            with ExitStack() as around:
                for enter in (*self._around, self._pulse.batch):
                    around.enter_context(enter())
                query_id = frame.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId")
                assert query_id is not None
                began = time.perf_counter()
                records = self._read(frame, batch_id)
                self.run(records, BatchId(query_id, batch_id), time.perf_counter() - began)
            self._upkeep()
        except Exception as error:
            self._log.error("micro-batch %d failed", batch_id, exc_info=error)
            raise BatchFailedError(error) from None

    def run(self, records: Records, batch: BatchId, read_s: float = 0.0) -> None:
        """Take a batch whose records are here; `read_s` is what reading them took."""
        seconds = {"read": read_s}
        began = time.perf_counter()
        outcome = self._decide(records, batch)
        seconds["decide"] = time.perf_counter() - began
        for name, step in self._in_order(outcome):
            began = time.perf_counter()
            self._retry.until_done(name, step)
            seconds[name] = time.perf_counter() - began
        outcome.then(seconds)
        metrics.BATCHES.labels(self._job).inc()
        metrics.REFUSED.labels(self._job).inc(len(outcome.refused))
        for name, spent in seconds.items():
            metrics.BATCH_SECONDS.labels(self._job, name).observe(spent)
        metrics.BATCH_SECONDS.labels(self._job, "all").observe(sum(seconds.values()))

    def _in_order(self, outcome: BatchOutcome) -> list[tuple[str, BatchStep]]:
        steps = dict(outcome.steps)
        if outcome.refused:
            steps[DEAD_LETTERS] = BatchStep(
                act=lambda: self._dead_letters.publish(outcome.refused), target="the dead-letter topic"
            )
        if undeclared := steps.keys() - set(self._order):
            raise ValueError(f"steps {sorted(undeclared)} of {self._job}: declared are {', '.join(self._order)}")
        return [(name, steps[name]) for name in self._order if name in steps]
