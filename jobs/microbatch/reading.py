"""A micro-batch's records, from who is ahead of them or else through Spark: the same records, for every job."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import pyarrow as pa

from thalweg.jobs.microbatch import metrics
from thalweg.streams.broker.range_reader import BEHIND_S, Ranges, batch_ranges

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Records = TypeVar("Records")

Ahead = Callable[[Ranges, float], Records | None]
"""Hands over exactly these offsets, or None when they are not all here in so many seconds (`RangeReader.read`)."""

Unread = Callable[[Ranges, Mapping[tuple[str, int], int]], None]
"""Told when a batch has fewer records than offsets: its ranges, and the first offset read of each partition."""

_COLUMNS: Final = ("topic", "partition", "offset", "unix_millis(timestamp) AS timestamp_ms", "key", "value")
# No constant of the micro-batch, such as current_timestamp(), may be among them: Spark would compile each batch.


class Reading(Generic[Records]):
    """Reads one query's batches."""

    def __init__(
        self,
        *,
        job: str,
        checkpoint: str,
        ahead: Ahead[Records] | None,
        made_of: Callable[[pa.Table], Records],
        unread: Unread = lambda *_: None,
    ) -> None:
        """Prepare.

        Args:
            job: for the metrics.
            checkpoint: the query's, whose offsets log says what a batch is.
            ahead: who has records before they are asked for; None reads every batch through Spark.
            made_of: what `ahead` hands over, made of records that came through Spark, by `range_reader.SCHEMA`.
            unread: told what the broker holds no longer.
        """
        self._job = job
        self._checkpoint = checkpoint
        self._ahead = ahead
        self._made_of = made_of
        self._unread = unread

    def __call__(self, frame: "DataFrame", batch_id: int) -> Records:
        """Read one batch."""
        ranges = batch_ranges(self._checkpoint, batch_id)
        taken = self._ahead(ranges, BEHIND_S) if self._ahead is not None and ranges else None
        metrics.READ_THROUGH.labels(self._job, "spark" if taken is None else "driver").inc()
        if taken is not None:
            return taken
        received = collect(frame)
        if ranges and received.num_rows < sum(end - start for start, end in ranges.values()):
            self._unread(ranges, first_offsets(received))
        return self._made_of(received)


def selected(frame: "DataFrame") -> "DataFrame":
    """Bring Kafka records to the columns of `range_reader.SCHEMA`."""
    return frame.selectExpr(*_COLUMNS)


def collect(frame: "DataFrame") -> pa.Table:
    """Bring a batch of Kafka records to the driver, by `range_reader.SCHEMA`."""
    return selected(frame).toArrow()


def first_offsets(received: pa.Table) -> dict[tuple[str, int], int]:
    """First offset of each partition among a batch's records."""
    first = received.group_by(["topic", "partition"], use_threads=False).aggregate([("offset", "min")])
    return {(row["topic"], row["partition"]): row["offset_min"] for row in first.to_pylist()}
