"""What is declared for the edge, read from the sync plane: the records of one key, the newest of each.

The topic `replica` is what every region agrees on, so nothing is joined and nothing written: a reader of it is enough.
A record that declares nothing that can be carried out changes nothing, and is said in the log; what was declared before
it goes on.
"""

import logging
from typing import Final

from thalweg.agent.prepared_samples import checked_for_samples
from thalweg.edge.declaration import Declaration, DeclarationError, read_declaration
from thalweg.scheduling.ids import RegionId
from thalweg.streams.broker.consume import IncomingRecord, Reader
from thalweg.streams.broker.errors import BrokerUnavailableError
from thalweg.streams.replication.replica_log import read_entry
from thalweg.sync.protocol.entries import ForgetEntry, RecordEntry
from thalweg.sync.protocol.records import view

log: Final = logging.getLogger("thalweg.agent")


class Declarations:
    """Those under one key, as far as they have been read."""

    def __init__(self, reader: Reader, key: str) -> None:
        """Begin with none.

        Args:
            reader: of the topic `replica`, from its beginning.
            key: of the record for all regions; that of one region is KEY/REGION.
        """
        self._reader = reader
        self._key = key
        self._found: dict[str, Declaration] = {}

    def refresh(self) -> None:
        """Read what has arrived."""
        try:
            records = self._reader.poll(0)
        except BrokerUnavailableError as error:
            log.warning("what is declared for the edge stays as it was: %s", error)
            return
        for record in records:
            self._take(record)

    def of(self, region: RegionId) -> Declaration | None:
        """Return what is declared for a region; None where nothing is."""
        return self._found.get(f"{self._key}/{region}", self._found.get(self._key))

    def close(self) -> None:
        """Let the reader go."""
        self._reader.close()

    def _take(self, record: IncomingRecord) -> None:
        entry = read_entry(record.key, record.value, record.headers)
        if isinstance(entry, ForgetEntry):
            self._found.pop(entry.key, None)
            return
        if not isinstance(entry, RecordEntry):
            return
        key = entry.record.key
        if key != self._key and not key.startswith(f"{self._key}/"):
            return
        value = view(entry.record)
        if value is None:
            self._found.pop(key, None)
            return
        try:
            self._found[key] = checked_for_samples(read_declaration(value))
        except DeclarationError as error:
            kept = self._found.get(key)
            log.error(
                "the record %s declares nothing that can be carried out: %s. %s", key, error,
                "Nothing is prepared by it" if kept is None else f"Revision {kept.revision} goes on",
            )  # fmt: skip
