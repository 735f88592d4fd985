"""Wakes `replicate` when a write that waited for its stamp may be merged, and nobody else has anything to say.

A micro-batch comes when somebody writes. What only time makes due would wait for a region to write, for hours where all
are quiet.
"""

from collections.abc import Callable, Iterable
from typing import Final

from thalweg.streams.broker.publish import OutgoingRecord, Publisher
from thalweg.streams.contract.state_messages import encode_batch
from thalweg.streams.contract.topics import STATE, topic_name
from thalweg.sync.centre.known_regions import KnownRegion

CONTROL_REGION: Final = "control"
"""Where this job itself runs."""

EVERY_S: Final = 1.0
"""Between two looks at the clock."""


def next_due_ms(regions: Iterable[KnownRegion], park_ms: int) -> int | None:
    """Return when the first of the regions' parked writes may be merged; None if none waits.

    Args:
        regions: as the centre knows them, in the thread that changes them.
        park_ms: how far ahead of time a stamp may be.
    """
    stamps = [write.stamp.ms for region in regions for write in region.parked.values()]
    return min(stamps) - park_ms if stamps else None


def nothing_said(prefix: str) -> OutgoingRecord:
    """Make a record that says nothing: a batch of no messages, by which a micro-batch comes."""
    topic = topic_name(STATE, prefix, CONTROL_REGION)
    return OutgoingRecord(
        topic=topic, key=CONTROL_REGION.encode(), value=encode_batch([]), max_bytes=STATE.max_message_bytes
    )


class Alarm:
    """Beside the stream; `set` belongs to the stream's thread, `step` to its own."""

    def __init__(self, publisher: Callable[[], Publisher], prefix: str, clock: Callable[[], int]) -> None:
        """Prepare; nothing is connected before it is needed.

        Args:
            publisher: makes one.
            prefix: first part of the topics' names.
            clock: the wall clock.
        """
        self._make = publisher
        self._publisher: Publisher | None = None
        self._prefix = prefix
        self._clock = clock
        self._due_ms: int | None = None

    def set(self, due_ms: int | None) -> None:
        """Note when something is due; None if nothing is."""
        self._due_ms = due_ms

    def step(self) -> None:
        """Wake the stream if it is time. Once too often is no harm."""
        if self._due_ms is None or self._clock() < self._due_ms:
            return
        if self._publisher is None:
            self._publisher = self._make()
        self._publisher.publish([nothing_said(self._prefix)])

    def close(self) -> None:
        """Give up the connection."""
        if self._publisher is not None:
            self._publisher.close()
