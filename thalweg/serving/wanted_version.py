"""Which version a region is to serve, read from the sync plane: the record of the model, or the region's own.

The topic `replica` is what every region agrees on, so nothing is joined and nothing written: a reader of it is enough.
A record that declares nothing that can be served changes nothing; nor does one that is deleted, for who serves goes on.
"""

import logging
from typing import Final, Protocol

from thalweg.learning.rollout.records import PREFIX
from thalweg.serving.edge_records import EdgeRecords
from thalweg.serving.version_record import STORED, ModelVersion, VersionRecordError, key_of, read_version
from thalweg.streams.broker.consume import IncomingRecord, Reader
from thalweg.streams.replication.replica_log import read_entry
from thalweg.sync.protocol.entries import ForgetEntry, RecordEntry
from thalweg.sync.protocol.records import Record, view

log: Final = logging.getLogger("thalweg.serving")


class PlaceReader(Reader, Protocol):
    """A reader that says how far it has read."""

    def position(self, topic: str, partition: int) -> int:
        """Next offset to read."""


class WantedVersion:
    """Of one model in one region, as far as has been read."""

    def __init__(self, reader: PlaceReader, model: str, region: str, edge: EdgeRecords | None = None) -> None:
        """Begin with none.

        Args:
            reader: of the topic `replica`, from its beginning.
            model: name of the model.
            region: where it is served.
            edge: takes the records of an edge in roll-outs, too; None where it is in none.

        Raises:
            VersionRecordError: the name cannot be a model's.
            BrokerUnavailableError: nobody answers.
        """
        self._reader = reader
        self._all, self._own = key_of(model), key_of(model, region)
        self._found: dict[str, ModelVersion] = {}
        self._edge = edge
        self._ends = {} if edge is None else reader.end_offsets()
        self.trouble = ""
        """Why the newest record of the model says nothing; empty where it does."""

    def refresh(self, timeout_ms: int) -> ModelVersion | None:
        """Read what has arrived, and return what is to be served; None where nothing is declared.

        Raises:
            BrokerUnavailableError: nobody answers; what was read stays.
        """
        for record in self._reader.poll(timeout_ms):
            self._take(record)
        if self._edge is not None and not self._edge.complete:
            self._edge.complete = all(self._reader.position(*place) >= end for place, end in self._ends.items())
        return self._found.get(self._own, self._found.get(self._all))

    def close(self) -> None:
        """Let the reader go."""
        self._reader.close()

    def _take(self, record: IncomingRecord) -> None:
        entry = read_entry(record.key, record.value, record.headers)
        if isinstance(entry, ForgetEntry):
            self._found.pop(entry.key, None)
            self._tell_edge(entry.key, None)
            return
        if not isinstance(entry, RecordEntry):
            return
        key = entry.record.key
        if key not in (self._all, self._own):
            self._tell_edge(key, entry.record)
            return
        value = view(entry.record)
        if value is None:
            self._found.pop(key, None)
            return
        try:
            self._found[key] = read_version(value)
            self.trouble = ""
        except VersionRecordError as error:
            self.trouble = f"the record {key} declares no version that can be served: {error}"
            log.error("%s", self.trouble)

    def _tell_edge(self, key: str, record: Record | None) -> None:
        if self._edge is not None and key.startswith((PREFIX, STORED)):
            self._edge.take(key, None if record is None else view(record))
