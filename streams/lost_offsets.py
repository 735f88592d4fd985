"""Notice records that a stream was never given: they expired before they were read, or their topic was made anew.

Spark's source goes on behind such a gap, because one region's deleted topic must not stop the others. For requests,
which applications count as accepted, going on without a word is a loss that nobody hears of.
"""

from collections.abc import Collection
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from conf.settings import Kafka
from streams.connection import consumer_options
from streams.range_reader import Ranges, batch_bounds

Gaps = Ranges
"""(topic, partition) → first lost offset and the offset after the last."""

_ANEW: Final = 0


class LostOffsets:
    """Looks at each batch of a query. For one thread."""

    def __init__(self, kafka: Kafka, topics: Collection[str]) -> None:
        """Watch topics; the broker is asked only where a batch begins with a gap."""
        self._kafka = kafka
        self._topics = frozenset(topics)
        self._consumer: KafkaConsumer | None = None

    def look(self, checkpoint: str, batch_id: int, received: pa.Table) -> Gaps:
        """Return what the batch should have held and nobody has any more."""
        bounds = batch_bounds(checkpoint, batch_id)
        if bounds is None:
            return {}
        suspected, made_anew = suspected_gaps(*bounds, received, self._topics)
        if not suspected:
            return made_anew
        earliest = self._earliest(list(suspected))
        expired = {
            place: (start, min(end, earliest[place]))
            for place, (start, end) in suspected.items()
            if earliest.get(place, start) > start
        }
        return {**made_anew, **expired}

    def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            self._consumer.close()

    def _earliest(self, places: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
        try:
            if self._consumer is None:
                self._consumer = KafkaConsumer(**consumer_options(self._kafka))
            found = self._consumer.beginning_offsets([TopicPartition(*place) for place in places])
        except (KafkaError, OSError):
            return {}  # the batch goes on; the gap stays unsaid rather than holding up what is there
        return {(partition.topic, partition.partition): offset for partition, offset in found.items()}


def suspected_gaps(
    starts: dict[tuple[str, int], int],
    ends: dict[tuple[str, int], int],
    received: pa.Table,
    topics: Collection[str],
) -> tuple[Gaps, Gaps]:
    """Return gaps at the beginning of a batch's ranges, and what was skipped of topics that were made anew.

    The former may also be offsets that nobody gets: markers, and records of transactions that were aborted.
    """
    watched = received.filter(pc.is_in(received["topic"], value_set=pa.array(sorted(topics), pa.string())))
    first = watched.select(["topic", "partition", "offset"]).group_by(["topic", "partition"], use_threads=False)
    first_of = {
        (row["topic"], row["partition"]): row["offset_min"] for row in first.aggregate([("offset", "min")]).to_pylist()
    }
    suspected: dict[tuple[str, int], tuple[int, int]] = {}
    made_anew: dict[tuple[str, int], tuple[int, int]] = {}
    for place, end in ends.items():
        start = starts.get(place)
        if place[0] not in topics or start is None:
            continue
        if end < start:
            made_anew[place] = (_ANEW, end)
        elif first_of.get(place, end) > start:
            suspected[place] = (start, first_of.get(place, end))
    return suspected, made_anew
