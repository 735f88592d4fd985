"""What `observe` makes of a micro-batch: the history first, because somebody waits for it, then what was refused.

A batch ends only when every record of it is accounted for in the tables and topics. Each table's commit carries
(query id, batch id), so a batch that is repeated commits only what is missing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import Transaction
from deltalake.transaction import AddAction

from thalweg.conf.settings import Settings
from thalweg.jobs.microbatch.outcome import DEAD_LETTERS, BatchId, BatchOutcome, BatchStep, Seconds
from thalweg.jobs.microbatch.reading import selected
from thalweg.jobs.telemetry import metrics
from thalweg.streams.broker.lag import records_in_batch
from thalweg.streams.telemetry.intake import Intake
from thalweg.streams.telemetry.rules import FieldRule
from thalweg.streams.telemetry.spread import SpreadWork, take_in_spread
from thalweg.sync.delta.appender import Appender
from thalweg.sync.tables.latest_tables import LatestTables, by_kind
from thalweg.sync.tables.recognise import Recogniser

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

HISTORY: Final = "telemetry"
QUARANTINE: Final = "quarantine"
ORDER: Final = (HISTORY, QUARANTINE, DEAD_LETTERS)

# Before the first batch nothing is known of the records' size; an agent's record of fifty samples is this large.
_FIRST_GUESS_BYTES: Final = 10_000

TakenIn = tuple[Intake, pa.Table]
"""What became of a batch's records, and the records, by the schema `streams.telemetry.record_rows.RECORDS`."""


@dataclass(frozen=True, slots=True)
class ForExecutors:
    """A batch so large that Spark's tasks read it."""

    frame: "DataFrame"


@dataclass(slots=True, kw_only=True)
class Observer:
    """One life of the flow: open tables, and how large records are."""

    settings: Settings
    rules: Sequence[FieldRule]
    history: Appender
    quarantine: Appender
    latest: LatestTables
    """Gets every sample that the history holds."""
    checkpoint: str
    """The query's, where the size of a batch is read from."""
    reading: "Callable[[DataFrame, int], TakenIn]"
    """Takes in on the driver."""
    clock: Callable[[], int]
    recogniser: Recogniser
    """Leaves out what an earlier query has written."""
    record_bytes: float = field(default=_FIRST_GUESS_BYTES, init=False)

    def read(self, frame: "DataFrame", batch_id: int) -> TakenIn | ForExecutors:
        """Take in a batch on the driver, unless it is one for the executors."""
        return ForExecutors(frame) if self._belongs_to_executors(batch_id) else self.reading(frame, batch_id)

    def decide(self, received: TakenIn | ForExecutors, batch: BatchId) -> BatchOutcome:
        """Say what is written where."""
        transaction = Transaction(*batch)
        if isinstance(received, ForExecutors):
            return self._by_executors(received.frame, transaction)
        return self._in_driver(*received, transaction)

    def _belongs_to_executors(self, batch_id: int) -> bool:
        observe = self.settings.observe
        if not self.recogniser.is_done:
            return False
        if observe.writer != "auto":
            return observe.writer == "executors"
        records = records_in_batch(self.checkpoint, batch_id)
        return records is None or records * self.record_bytes > observe.executors_from_mb * 1e6

    def _in_driver(self, intake: Intake, records: pa.Table, transaction: Transaction) -> BatchOutcome:
        if records.num_rows == 0:
            return BatchOutcome(then=lambda _: metrics.BATCHES.labels("driver").inc())
        self.record_bytes = records["value"].nbytes / records.num_rows
        recognises = not self.recogniser.is_done
        history = self._fresh(self.history, intake.history, transaction, recognises=recognises)
        quarantine = self._fresh(self.quarantine, intake.quarantine, transaction, recognises=recognises)

        def written() -> None:
            if history.num_rows:
                metrics.SAMPLES.labels("driver").inc(history.num_rows)
                oldest = pc.min(history["received_at"]).as_py()
                metrics.FRESHNESS_SECONDS.observe(max(0.0, self.clock() / 1000 - oldest.timestamp()))
            self.latest.offer(by_kind(intake.history), self.history.version)

        def note(_: Seconds) -> None:
            metrics.BATCHES.labels("driver").inc()
            if recognises:
                self.recogniser.passed(ends_of(records))

        return BatchOutcome(
            steps={
                HISTORY: self._commit(self.history, lambda: self._files(self.history, history), transaction, written),
                QUARANTINE: self._quarantined(quarantine, transaction),
            },
            refused=intake.refused,
            then=note,
        )

    def _by_executors(self, frame: "DataFrame", transaction: Transaction) -> BatchOutcome:
        work = SpreadWork(
            table_uri=self.history.uri,
            rules=tuple(self.rules),
            topic_prefix=self.settings.kafka.topic_prefix,
            now_ms=self.clock(),
        )
        result = take_in_spread(selected(frame), work)
        repeated = self.history.has_committed(transaction)
        # Executors get a batch only where nothing is left to be recognised.
        quarantine = self._fresh(self.quarantine, result.quarantine, transaction, recognises=False)

        def written() -> None:
            metrics.SAMPLES.labels("executors").inc(0 if repeated else result.rows)
            self.latest.offer(result.latest, self.history.version)

        return BatchOutcome(
            steps={
                HISTORY: self._commit(self.history, lambda: result.files, transaction, written),
                QUARANTINE: self._quarantined(quarantine, transaction),
            },
            refused=result.refused,
            then=lambda _: metrics.BATCHES.labels("executors").inc(),
        )

    def _fresh(self, table: Appender, rows: pa.Table, transaction: Transaction, *, recognises: bool) -> pa.Table:
        """Leave out what the table has: of this very batch all, of an earlier query's what is recognised."""
        if table.has_committed(transaction):
            return rows.slice(0, 0)
        return self.recogniser.fresh(table.uri, table.contract, rows) if recognises else rows

    def _files(self, table: Appender, rows: pa.Table) -> list[AddAction]:
        return table.write(rows, self.clock()) if rows.num_rows else []

    def _quarantined(self, rows: pa.Table, transaction: Transaction) -> BatchStep:
        def written() -> None:
            for count in rows["rule"].value_counts().to_pylist():
                metrics.QUARANTINED.labels(count["values"]).inc(count["counts"])

        return self._commit(self.quarantine, lambda: self._files(self.quarantine, rows), transaction, written)

    def _commit(
        self,
        table: Appender,
        files: Callable[[], list[AddAction]],
        transaction: Transaction,
        then: Callable[[], None],
    ) -> BatchStep:
        """Commit files once, whatever happens in between; nothing if an earlier run of this batch has done it."""

        def act() -> None:
            if not table.has_committed(transaction) and (written := files()):
                table.commit(written, transaction)

        def done() -> bool:
            table.refresh()
            return table.has_committed(transaction)

        target = f"warehouse {self.settings.warehouse.path}, table {table.contract.name}:"
        return BatchStep(act=act, done=done, then=then, target=target)


def ends_of(records: pa.Table) -> dict[tuple[str, int], int]:
    """The offset after the last of each partition's records."""
    last = records.group_by(["topic", "topic_partition"], use_threads=False).aggregate([("topic_offset", "max")])
    return {(row["topic"], row["topic_partition"]): row["topic_offset_max"] + 1 for row in last.to_pylist()}
