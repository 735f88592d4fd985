"""One micro-batch of telemetry, safe to repeat: the history first, because somebody waits for it, then the refusals.

A batch ends only when every record of it is accounted for in the tables and topics. Each table's commit carries
(query id, batch id), so a batch that Spark repeats after a crash commits only what is missing. A disk without space or
a broker that does not answer makes the batch wait, say so, and go on when it can.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import Transaction
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction

from thalweg.conf.settings import Settings
from thalweg.jobs.runtime.job import Clock, Stop
from thalweg.jobs.telemetry import metrics
from thalweg.streams.broker.deadletter import RefusedRecord, dead_letter
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.broker.lag import records_in_batch
from thalweg.streams.broker.publish import KafkaPublisher
from thalweg.streams.broker.range_reader import BEHIND_S, batch_ranges
from thalweg.streams.telemetry.intake import Intake, take_in
from thalweg.streams.telemetry.intake_ahead import IntakeAhead
from thalweg.streams.telemetry.parse import RECORDS
from thalweg.streams.telemetry.rules import Rule
from thalweg.streams.telemetry.spread import SpreadWork, take_in_spread
from thalweg.sync.delta.appender import Appender
from thalweg.sync.tables.latest_tables import LatestTables, by_kind
from thalweg.sync.tables.recognise import Recogniser

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger("thalweg.observe")

# Between two tries of a commit: short enough that a freed disk is used at once, long enough not to fill the log.
RETRY_AFTER_S: Final = 1.0
SAY_AGAIN_EVERY: Final = 30
# Before the first batch nothing is known of the records' size; an agent's record of fifty samples is this large.
_FIRST_GUESS_BYTES: Final = 10_000


class BatchFailedError(Exception):
    """A micro-batch could not be taken; names the cause in a few words, the log has all of it."""


class BatchTaker:
    """Takes micro-batches, one at a time; what it keeps between them are open tables."""

    def __init__(
        self,
        *,
        settings: Settings,
        rules: Sequence[Rule],
        history: Appender,
        quarantine: Appender,
        latest: LatestTables,
        checkpoint: str,
        ahead: IntakeAhead | None,
        query_id: "Future[str]",
        clock: Clock,
        stop: Stop,
        between_batches: Callable[[], None],
        recogniser: Recogniser | None = None,
    ) -> None:
        """Hold what a batch needs.

        Args:
            settings: everything.
            rules: value rules.
            history: of `telemetry`.
            quarantine: of `quarantine`.
            latest: gets every sample that the history holds.
            checkpoint: the query's, where the size of a batch is read from.
            ahead: takes in on the driver what comes before the batches; None reads all through Spark.
            query_id: known once the query has started.
            clock: the wall clock.
            stop: ends a batch that waits.
            between_batches: called after each batch, in the thread that commits.
            recogniser: leaves out what an earlier query has written; None where there was none.
        """
        self._settings = settings
        self._rules = tuple(rules)
        self._history = history
        self._quarantine = quarantine
        self._latest = latest
        self._checkpoint = checkpoint
        self._ahead = ahead
        self._query_id = query_id
        self._clock = clock
        self._stop = stop
        self._between_batches = between_batches
        self._recogniser = recogniser or Recogniser({})
        self._publisher: KafkaPublisher | None = None
        self._record_bytes: float = _FIRST_GUESS_BYTES

    def take(self, batch: "DataFrame", batch_id: int) -> None:
        """Take one micro-batch.

        Raises:
            BatchFailedError: it could not be taken; Spark repeats it when the query is started again.
        """
        try:
            self._take(batch, batch_id)
        except Exception as error:
            log.error("micro-batch %d failed", batch_id, exc_info=error)
            # Spark searches the error's text with a recursive pattern: a long one, as of a failed Spark job, overflows
            # the stack of the query's thread, which then dies without a word.
            raise BatchFailedError(f"{type(error).__name__}: {str(error)[:500]}") from None

    def _take(self, batch: "DataFrame", batch_id: int) -> None:
        began = time.perf_counter()
        transaction = Transaction(self._query_id.result(timeout=60), batch_id)
        by_executors = self._belongs_to_executors(batch_id)
        if by_executors:
            self._take_by_executors(batch, transaction)
        else:
            self._take_in_driver(*self._read(batch, batch_id), transaction)
        metrics.BATCHES.labels("executors" if by_executors else "driver").inc()
        metrics.BATCH_SECONDS.observe(time.perf_counter() - began)
        self._between_batches()

    def _belongs_to_executors(self, batch_id: int) -> bool:
        observe = self._settings.observe
        if not self._recogniser.is_done:
            return False
        if observe.writer != "auto":
            return observe.writer == "executors"
        records = records_in_batch(self._checkpoint, batch_id)
        return records is None or records * self._record_bytes > observe.executors_from_mb * 1e6

    def _read(self, batch: "DataFrame", batch_id: int) -> tuple[Intake, pa.Table]:
        """Take what is ahead of the batch, or else its records through Spark: the same rows."""
        ranges = batch_ranges(self._checkpoint, batch_id) if self._ahead is not None else None
        taken = self._ahead.take(ranges, BEHIND_S) if self._ahead is not None and ranges else None
        metrics.READ_THROUGH.labels("spark" if taken is None else "driver").inc()
        if taken is not None:
            return taken
        records = batch.toArrow().cast(RECORDS)
        return take_in(records, self._rules, self._settings.kafka.topic_prefix), records

    def _take_in_driver(self, intake: Intake, records: pa.Table, transaction: Transaction) -> None:
        if records.num_rows == 0:
            return
        self._record_bytes = records["value"].nbytes / records.num_rows
        if self._append(self._history, intake.history, transaction):
            metrics.SAMPLES.labels("driver").inc(intake.history.num_rows)
            oldest = pc.min(intake.history["received_at"]).as_py()
            metrics.FRESHNESS_SECONDS.observe(max(0.0, self._clock() / 1000 - oldest.timestamp()))
        self._latest.offer(by_kind(intake.history), self._history.version)
        self._refuse(intake.quarantine, intake.refused, transaction)
        if not self._recogniser.is_done:
            self._recogniser.passed(ends_of(records))

    def _take_by_executors(self, batch: "DataFrame", transaction: Transaction) -> None:
        work = SpreadWork(
            table_uri=self._history.uri,
            rules=self._rules,
            topic_prefix=self._settings.kafka.topic_prefix,
            now_ms=self._clock(),
        )
        result = take_in_spread(batch, work)
        if self._commit(self._history, lambda: result.files, transaction):
            metrics.SAMPLES.labels("executors").inc(result.rows)
        self._latest.offer(result.latest, self._history.version)
        self._refuse(result.quarantine, result.refused, transaction)

    def _refuse(self, quarantine: pa.Table, refused: Sequence[RefusedRecord], transaction: Transaction) -> None:
        if self._append(self._quarantine, quarantine, transaction):
            for count in quarantine["rule"].value_counts().to_pylist():
                metrics.QUARANTINED.labels(count["values"]).inc(count["counts"])
        if refused:
            letters = [dead_letter(record, self._settings.kafka.topic_prefix) for record in refused]
            self._until_done("deadletter", lambda: self._connected().publish(letters))
            metrics.DEAD_LETTERS.inc(len(letters))

    def _append(self, table: Appender, rows: pa.Table, transaction: Transaction) -> bool:
        if not self._recogniser.is_done and not table.has_committed(transaction):
            rows = self._recogniser.fresh(table.uri, table.contract, rows)
        if rows.num_rows == 0:
            return False
        return self._commit(table, lambda: table.write(rows, self._clock()), transaction)

    def _commit(self, table: Appender, files: Callable[[], list[AddAction]], transaction: Transaction) -> bool:
        """Commit files once, whatever happens in between; False if an earlier run of this batch has done it."""
        if table.has_committed(transaction):
            return False

        def commit() -> None:
            written = files()
            if written:
                table.commit(written, transaction)

        def is_done() -> bool:
            table.refresh()
            return table.has_committed(transaction)

        self._until_done(table.contract.name, commit, is_done)
        return True

    def _until_done(self, target: str, act: Callable[[], None], is_done: Callable[[], bool] = lambda: False) -> None:
        """Do something that a full disk or a missing broker may prevent, until it is done or we are to stop.

        Raises:
            OSError | DeltaError | StreamError: asked to stop meanwhile; Spark will repeat the batch.
        """
        tries = 0
        while True:
            try:
                if tries == 0 or not is_done():
                    act()
                if tries:
                    log.info("%s: works again after %d tries; nothing was lost", target, tries)
                return
            except (OSError, DeltaError, StreamError) as error:
                if tries % SAY_AGAIN_EVERY == 0:
                    log.error("%s", self._words(target, error))
                metrics.STORE_FAILURES.labels(target).inc()
                tries += 1
                if self._stop.wait(RETRY_AFTER_S):
                    raise

    def _words(self, target: str, error: Exception) -> str:
        place = "topic" if target == "deadletter" else f"warehouse {self._settings.warehouse.path}, table"
        hint = "free some space" if "space" in str(error).lower() else "see the cause"
        return (
            f"{place} {target}: cannot be written ({type(error).__name__}: {str(error)[:300]}). The batch is kept and "
            f"tried again every {RETRY_AFTER_S:g} s, nothing is lost; {hint}"
        )

    def _connected(self) -> KafkaPublisher:
        # Made when something is refused for the first time: most runs never need it.
        if self._publisher is None:
            self._publisher = KafkaPublisher(self._settings.kafka, client_id="thalweg-observe")
        return self._publisher

    def close(self) -> None:
        """Give up the connections."""
        if self._ahead is not None:
            self._ahead.close()
        if self._publisher is not None:
            self._publisher.close()


def ends_of(records: pa.Table) -> dict[tuple[str, int], int]:
    """The offset after the last of each partition's records."""
    last = records.group_by(["topic", "topic_partition"], use_threads=False).aggregate([("topic_offset", "max")])
    return {(row["topic"], row["topic_partition"]): row["topic_offset_max"] + 1 for row in last.to_pylist()}
