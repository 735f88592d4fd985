"""A query's place in its topics, read from its progress: how far behind it is, and the same told to Kafka's own tools.

Spark keeps its offsets in its checkpoint and commits none to Kafka, so consumer-lag tools see nothing. What the query
has finished is therefore committed to a consumer group that nobody consumes with.
"""

import json
from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.connection import connection_options
from thalweg.sync.delta.data_files import folder_of

Offsets = Mapping[tuple[str, int], int]


def parse_offsets(text: Any) -> dict[tuple[str, int], int]:
    """Read offsets as Spark writes them: `{"topic": {"0": 42}}`, as text or as an object."""
    tree = json.loads(text) if isinstance(text, str) else text
    return {
        (topic, int(partition)): offset for topic, parts in (tree or {}).items() for partition, offset in parts.items()
    }


def records_in_batch(checkpoint: str, batch_id: int) -> int | None:
    """Count a micro-batch's records from the query's offset log; None where it cannot be read from here.

    For the first batch the offsets at which the topics begin are not in the log, so the answer may be too large.

    Args:
        checkpoint: the query's folder or URI.
        batch_id: a batch that has begun.
    """
    try:
        end = _logged_offsets(checkpoint, batch_id)
        begin = _logged_offsets(checkpoint, batch_id - 1) if batch_id else {}
    except (OSError, ValueError, IndexError):
        return None
    return records_behind(begin, end)


def end_of_batch(checkpoint: str, batch_id: int) -> Offsets | None:
    """Read from the query's offset log up to where a micro-batch reads; None where it cannot be read from here."""
    try:
        return _logged_offsets(checkpoint, batch_id)
    except (OSError, ValueError, IndexError):
        return None


def _logged_offsets(checkpoint: str, batch_id: int) -> dict[tuple[str, int], int]:
    """Read one entry of the offset log: its version, the batch's metadata, then a line per source."""
    filesystem, folder = folder_of(checkpoint)
    with filesystem.open_input_stream(f"{folder}/offsets/{batch_id}") as entry:
        lines = entry.read().decode().splitlines()
    return parse_offsets(lines[2])


def records_behind(end: Offsets, latest: Offsets) -> int:
    """Records that are in the topics and not yet taken; a partition not begun counts whole."""
    return sum(max(0, offset - end.get(place, 0)) for place, offset in latest.items())


class ProgressGroup:
    """The consumer group that shows a query's place. For one thread."""

    def __init__(self, kafka: KafkaSettings, name: str) -> None:
        """Connect.

        Args:
            kafka: the broker's settings.
            name: of the group; `<prefix>-<flow>`.
        """
        self.name = name
        self._consumer = KafkaConsumer(group_id=name, enable_auto_commit=False, **connection_options(kafka))
        self._committed: Offsets = {}

    def commit(self, end: Offsets) -> None:
        """Say that everything before these offsets is done."""
        if not end or end == self._committed:
            return
        places = {TopicPartition(topic, partition): offset for (topic, partition), offset in end.items()}
        self._consumer.assign(list(places))
        self._consumer.commit({place: OffsetAndMetadata(offset, "", -1) for place, offset in places.items()})
        self._committed = dict(end)

    def close(self) -> None:
        """Disconnect; the committed place stays."""
        self._consumer.close(autocommit=False)
