"""What is declared for the edge, read from the sync plane: the records of one key, the newest of each.

The topic `replica` is what every region agrees on, so nothing is joined and nothing written: a reader of it is enough.
A record that declares nothing that can be carried out changes nothing, and is said in the log; what was declared before
it goes on. Where nothing is declared for a region all samples leave, and somebody who wanted that would not have named
a record: that is said, too.
"""

import logging
from collections.abc import Sequence
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

FIRST_LOOK_MS: Final = 10_000
"""So long nothing is said to be missing: the topic is read from its beginning, by thousands of records a second."""
_MOST_NAMED: Final = 3


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
        self._first_ms: int | None = None
        self.lacking = ""
        """What is missing, in words; "" where nothing is, or nobody can say yet."""

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

    def look_for(self, regions: Sequence[RegionId], now_ms: int) -> None:
        """Say it once when nothing is declared for some of these regions, and once when it is there.

        Args:
            regions: all of the agent's.
            now_ms: on a clock that never steps.
        """
        self._first_ms = now_ms if self._first_ms is None else self._first_ms
        missing = [region for region in regions if self.of(region) is None]
        if missing and not self.lacking and now_ms - self._first_ms < FIRST_LOOK_MS:
            return
        before, self.lacking = self.lacking, self._words(missing)
        if self.lacking and self.lacking != before:
            log.warning("%s", self.lacking)
        elif before and not self.lacking:
            log.info("the record %s is there: samples are prepared by it", self._key)

    def _words(self, missing: Sequence[RegionId]) -> str:
        if not missing:
            return ""
        named = ", ".join(missing[:_MOST_NAMED]) + (", …" if missing[_MOST_NAMED:] else "")
        return (
            f"no record {self._key} (setting agent.preparation) that can be carried out is there: every sample of "
            f"{named} leaves as it is"
        )

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
