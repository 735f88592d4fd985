"""What the sync plane says under some keys now: for whoever asks once and keeps nothing."""

from collections.abc import Collection, Mapping
from typing import Any, Final, Protocol

from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.replication.replica_log import read_entry
from thalweg.sync.protocol.entries import ForgetEntry, RecordEntry
from thalweg.sync.protocol.records import view

_LOOK_MS: Final = 200


class WholeReader(Protocol):
    """A reader that knows its ends."""

    def poll(self, timeout_ms: int) -> list[IncomingRecord]:
        """Return what has arrived."""

    def end_offsets(self) -> Mapping[tuple[str, int], int]:
        """Return the position after the newest record of each partition."""

    def position(self, topic: str, partition: int) -> int:
        """Next offset to read."""


def newest_records(reader: WholeReader, keys: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """Read the records of these keys that there are, to the end that the topic has now.

    Args:
        reader: of the topic `replica`, from its beginning.
        keys: of records.

    Returns:
        Their values, by key.

    Raises:
        BrokerUnavailableError: nobody answers.
    """
    ends = reader.end_offsets()
    found: dict[str, Mapping[str, Any]] = {}
    while any(reader.position(*place) < end for place, end in ends.items()):
        for one in reader.poll(_LOOK_MS):
            entry = read_entry(one.key, one.value, one.headers)
            if isinstance(entry, ForgetEntry):
                found.pop(entry.key, None)
            elif isinstance(entry, RecordEntry) and entry.record.key in keys:
                value = view(entry.record)
                if value is None:
                    found.pop(entry.record.key, None)
                else:
                    found[entry.record.key] = value
    return found
