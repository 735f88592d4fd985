"""Read exactly a micro-batch's offset ranges on the driver, from a consumer that has them before they are asked for.

A Spark job that reads ten partitions of a hundred records costs many times what the records do: planning, a task for
each partition, a fetch each, and the way to Python, for a few kilobytes. So Spark decides what the batch is (its
offsets log, written before the batch runs), and this reader, which follows the same topics all the time, hands over
just these offsets. Whatever it cannot hand over in time, completely, is read through Spark instead: the result is the
same (docs/decisions/0020-batches-read-on-the-driver.md).
"""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

import pyarrow as pa
from kafka import KafkaConsumer, TopicPartition

from thalweg.conf.settings import KafkaSettings
from thalweg.conf.words import cut_short
from thalweg.streams.broker.checkpoint_files import CheckpointFiles
from thalweg.streams.broker.connection import consumer_options, is_unreadable
from thalweg.streams.broker.stored_checkpoint import can_look_into, files_at

Ranges = Mapping[tuple[str, int], tuple[int, int]]
"""(topic, partition) → first offset and the offset after the last."""

LARGEST_RECORDS: Final = 20_000
"""A batch above this (a backlog) goes through Spark, which reads it in parallel; below, the buffers hold it."""

BUFFERED_RECORDS: Final = 200_000
BUFFERED_BYTES: Final = 256 * 1_048_576
"""Reading ahead stops at so much in memory; what is missing then is read through Spark."""

BEHIND_S: Final = 0.2
"""How long the reader may be behind a batch before Spark reads it: about what Spark would take."""

_PAUSE_S: Final = 0.02
"""Between two polls while nobody waits: one poll then takes many records instead of each alone. Who waits wakes it."""

_UNREADABLE_PAUSE_S: Final = 30.0
"""After records that this client cannot read and Spark can: until then they have gone by."""

SCHEMA: Final = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp_ms", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
    ]
)

log = logging.getLogger("thalweg.range_reader")


class Row(NamedTuple):
    """One record, in the order of SCHEMA."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


def batch_ranges(checkpoint: str, batch_id: int) -> Ranges | None:
    """Read from Spark's offsets log what a micro-batch consists of; None where the log does not say it plainly.

    That is the first batch, one with a partition that the one before had not, and a checkpoint where we cannot look.
    """
    bounds = batch_bounds(checkpoint, batch_id)
    if bounds is None or not bounds[1].keys() <= bounds[0].keys():
        return None
    starts, ends = bounds
    return {place: (starts[place], end) for place, end in ends.items() if end > starts[place]}


def batch_bounds(
    checkpoint: str, batch_id: int
) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], int]] | None:
    """Read the offsets at which a micro-batch begins and ends; None where the log does not say it plainly."""
    if batch_id == 0 or not can_look_into(checkpoint):
        return None
    files = files_at(checkpoint)
    ends, starts = _offsets(files, batch_id), _offsets(files, batch_id - 1)
    return None if ends is None or starts is None else (starts, ends)


def _offsets(files: CheckpointFiles, batch_id: int) -> dict[tuple[str, int], int] | None:
    """Offsets of one entry: a version line, a line of metadata, a line for each source (we have one)."""
    try:
        lines = files.read(f"offsets/{batch_id}").splitlines()
        if len(lines) != 3 or lines[0] != "v1":
            return None
        topics: dict[str, dict[str, int]] = json.loads(lines[2])
    except (OSError, ValueError):
        return None
    return {(topic, int(partition)): end for topic, ends in topics.items() for partition, end in ends.items()}


class RangeReader:
    """Follows topic partitions on a thread of its own; `read` may be called from one other thread."""

    def __init__(self, kafka: KafkaSettings, *, largest_records: int = LARGEST_RECORDS) -> None:
        """Prepare; partitions are followed from the first time they are asked for.

        Args:
            kafka: the broker's settings.
            largest_records: a batch of more is left to Spark, and its partitions are not followed until a smaller one.
        """
        self._kafka = kafka
        self._largest_records = largest_records
        self._changed = threading.Condition()
        self._buffers: dict[tuple[str, int], deque[Row]] = {}
        self._read_up_to: dict[tuple[str, int], int] = {}
        self._given_up_to: dict[tuple[str, int], int] = {}
        self._follow_from: dict[tuple[str, int], int] = {}
        self._unfollow: set[tuple[str, int]] = set()
        self._waiting = False
        self._buffered = 0
        self._buffered_bytes = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="range-reader", daemon=True)
        self._thread.start()

    def read(self, ranges: Ranges, timeout_s: float) -> pa.Table | None:
        """Hand over exactly these offsets, or None when they are not all here in time.

        A range may have holes: offsets of transaction markers, of records that were taken back, or that compaction has
        removed. Nobody gets these, Spark neither; what counts is that the reader's position has passed the range. A
        range whose first offsets the broker does not have any more is left to Spark. What lies before a range is
        forgotten: ranges are asked for in order.
        """
        if sum(end - start for start, end in ranges.values()) > self._largest_records:
            with self._changed:
                for place in ranges:
                    self._forget(place)
            return None
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._waiting = True
            self._changed.notify_all()
            try:
                for place, (start, _) in ranges.items():
                    if self._read_up_to.get(place, -1) < start or self._given_up_to[place] > start:
                        self._follow(place, start)
                while any(self._read_up_to.get(place, -1) < end for place, (_, end) in ranges.items()):
                    left = deadline - time.monotonic()
                    if left <= 0 or self._closed:
                        return None
                    self._changed.wait(left)
                return _table([row for place, span in ranges.items() for row in self._take(place, *span)])
            finally:
                self._waiting = False

    def read_batch(self, checkpoint: str, batch_id: int) -> pa.Table | None:
        """Hand over a micro-batch's records, or None when Spark must read them."""
        ranges = batch_ranges(checkpoint, batch_id)
        return self.read(ranges, BEHIND_S) if ranges else None

    def arrived(self, after: Mapping[tuple[str, int], int]) -> pa.Table:
        """Look at what is here and was not asked for yet, from an offset on for each place; it stays here."""
        with self._changed:
            rows = [
                row
                for place, buffer in self._buffers.items()
                if self._read_up_to[place] > after.get(place, -1)
                for row in buffer
                if row.offset >= after.get(place, -1)
            ]
        return _table(rows)

    def close(self) -> None:
        """Stop following."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout=5)

    # Called with the lock held

    def _follow(self, place: tuple[str, int], start: int) -> None:
        self._forget(place)
        self._unfollow.discard(place)
        self._buffers[place] = deque()
        self._read_up_to[place] = self._given_up_to[place] = self._follow_from[place] = start

    def _forget(self, place: tuple[str, int]) -> None:
        for row in self._buffers.pop(place, ()):
            self._let_go(row)
        for places in (self._read_up_to, self._given_up_to, self._follow_from):
            places.pop(place, None)
        self._unfollow.add(place)

    def _let_go(self, row: Row) -> None:
        self._buffered -= 1
        self._buffered_bytes -= len(row.value or b"")

    def _take(self, place: tuple[str, int], start: int, end: int) -> list[Row]:
        buffer, taken = self._buffers[place], list[Row]()
        while buffer and buffer[0].offset < end:
            row = buffer.popleft()
            self._let_go(row)
            if row.offset >= start:
                taken.append(row)
        self._given_up_to[place] = end
        return taken

    # The thread

    def _run(self) -> None:
        while not self._closed:
            try:
                self._consume()
            except Exception as error:  # whatever it is: the records come through Spark meanwhile
                unreadable = is_unreadable(error)
                log.warning(
                    "reading ahead stopped and starts again",
                    extra={"fields": {"error": f"{type(error).__name__}: {cut_short(str(error))}"}},
                )
                with self._changed:
                    # Partitions go on where they stand; what is asked for meanwhile comes through Spark. What cannot be
                    # read is not tried again: the partitions are followed from where a batch asks for them next.
                    if unreadable:
                        for place in list(self._buffers):
                            self._forget(place)
                    else:
                        self._follow_from.update(self._read_up_to)
                    self._changed.wait_for(lambda: self._closed, _UNREADABLE_PAUSE_S if unreadable else 1.0)

    def _consume(self) -> None:
        consumer = KafkaConsumer(
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=100,
            fetch_min_bytes=1,
            max_poll_records=5_000,
            **consumer_options(self._kafka),
        )
        try:
            while not self._closed:
                self._assign(consumer)
                full = self._buffered > BUFFERED_RECORDS or self._buffered_bytes > BUFFERED_BYTES
                if full or not consumer.assignment():
                    time.sleep(_PAUSE_S)
                    continue
                found = consumer.poll(timeout_ms=20)
                with self._changed:
                    for partition in consumer.assignment():
                        place = (partition.topic, partition.partition)
                        if place in self._follow_from or place not in self._buffers:
                            continue  # it was moved, or given up, while this poll was under way
                        records = found.get(partition, ())
                        self._buffers[place].extend(
                            Row(place[0], place[1], record.offset, record.timestamp, record.key, record.value)
                            for record in records
                        )
                        self._buffered += len(records)
                        self._buffered_bytes += sum(len(record.value or b"") for record in records)
                        # Also of those without records: what lies between may be nothing that readers get.
                        self._read_up_to[place] = max(self._read_up_to[place], consumer.position(partition))
                    self._changed.notify_all()
                    if not self._waiting:
                        self._changed.wait(_PAUSE_S)
        finally:
            consumer.close()

    def _assign(self, consumer: KafkaConsumer) -> None:
        with self._changed:
            wanted, self._follow_from = self._follow_from, {}
            given_up, self._unfollow = self._unfollow, set()
        if not wanted and not given_up:
            return
        followed = consumer.assignment()
        places = (followed - {TopicPartition(*place) for place in given_up}) | {TopicPartition(*p) for p in wanted}
        if places != followed:
            consumer.assign(sorted(places))
        for (topic, number), start in wanted.items():
            consumer.seek(TopicPartition(topic, number), start)


def _table(rows: list[Row]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(SCHEMA)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )
