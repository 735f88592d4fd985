"""What `replicate` makes of a micro-batch: published first, because regions wait for it; the regions' state last.

Only when a region's state is durable are its messages known as repetitions (`sync.centre.centre`), so a batch that was
killed anywhere is taken once more and leads to the same.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pyarrow as pa
from deltalake import Transaction

from thalweg.jobs.microbatch.isolation import Indigestible, Isolation
from thalweg.jobs.microbatch.outcome import DEAD_LETTERS, BatchId, BatchOutcome, BatchStep, Seconds
from thalweg.jobs.replication import metrics
from thalweg.jobs.replication.alarm import next_due_ms
from thalweg.jobs.replication.publication import Publication
from thalweg.jobs.replication.refusals import foreign_rows, place_of, refused_by_centre, refused_record, refused_rows
from thalweg.streams.contract.state_messages import Policies, StateInput, StateRefusedError, read_state
from thalweg.streams.contract.topics import REPLICA, STATE, region_of_topic
from thalweg.streams.replication.replica_log import LogRecord, ReplicaLog, record_entry, write_entry
from thalweg.sync.centre.centre import Centre, MergeKeys
from thalweg.sync.centre.centre import MergeOutcome as Merged
from thalweg.sync.protocol.digests import DigestLedger, encoded_hash
from thalweg.sync.protocol.entries import Entry, RecordEntry, UpMessage
from thalweg.sync.protocol.records import encode_record
from thalweg.sync.protocol.stamps import FutureLimits
from thalweg.sync.tables.centre_row import CentreRow
from thalweg.sync.tables.replicate_tables import ReplicateTables, counted, record_rows

ENTRIES: Final = "replica"
CONFLICTS: Final = "conflicts"
RECORDS: Final = "records"
GAPS: Final = "gaps"
REFUSED: Final = "refused"
REGIONS: Final = "regions"
ORDER: Final = (ENTRIES, DEAD_LETTERS, CONFLICTS, RECORDS, GAPS, REFUSED, REGIONS)
"""The regions' state last: what comes before it is done again by a repeated batch, what comes after is not."""

WriteRecords = Callable[[pa.Table, int], None]
"""Writes the rows of `records`, given the time."""
Merging = Callable[[Centre, int], tuple[MergeKeys, WriteRecords]]
"""Chooses who merges a batch at a time, and who writes its records."""
Said = tuple[StateInput, list[UpMessage]]
Unreadable = tuple[StateInput, str]

_LARGEST: Final = REPLICA.max_message_bytes - 4_096  # room for the record's key and headers
log = logging.getLogger("thalweg.replicate")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationLimits:
    """What `Replicator` needs of the settings."""

    topic_prefix: str
    policies: Policies
    limits: FutureLimits
    tombstone_age_ms: int
    ask_again_ms: int
    digest_every_ms: int


class Replicator:
    """One life of the flow: the centre over its tables and its topic."""

    def __init__(
        self,
        *,
        tables: ReplicateTables,
        log: ReplicaLog,
        limits: ReplicationLimits,
        position: int,
        clock: Callable[[], int],
        isolation: Isolation,
        merging: Merging | None = None,
        replica_topic: str = "",
        state_topics: Mapping[str, str] | None = None,
        wake_at: Callable[[int | None], None] = lambda _: None,
    ) -> None:
        """Start from the tables.

        Args:
            tables: the centre's.
            log: the replica topic.
            limits: from the settings.
            position: end of the replica topic.
            clock: the wall clock.
            isolation: records that cannot be digested.
            merging: chooses who merges; None does all here.
            replica_topic: id of the replica topic; one that the tables do not know gets all there is.
            state_topics: ids of the topics that regions write to, by region.
            wake_at: told when the next batch is wanted at the latest, or None; whoever writes or not.
        """
        self._tables = tables
        self._log = log
        self._limits = limits
        self._clock = clock
        self._isolation = isolation
        self._merging = merging or (lambda centre, now_ms: (centre.merge_here(now_ms), tables.write_records))
        self._row = tables.load().centre
        self._replica_topic = replica_topic
        self._state_topics = state_topics or {}
        self._owes_everything = self._row.replica_topic not in ("", replica_topic)
        if self._owes_everything:
            _say_replaced(self._row.replica_topic, replica_topic)
        self.centre = self._durable_centre(position)
        self._digests = DigestLedger()
        for key, record in self.centre.records.items():
            self._digests.put(key, encoded_hash(encode_record(record)))
        self._next_digest_ms = 0
        self._wake_at = wake_at
        self._set_alarm()

    def decide(self, records: Sequence[StateInput], batch: BatchId) -> BatchOutcome:
        """Merge a batch and say what is published and written; the same records again lead to the same.

        Args:
            records: of the state topics, in order of offset within a partition.
            batch: which one.
        """
        if not records:
            return BatchOutcome()
        now_ms = self._clock()
        said, unreadable = self._read(records)
        merge_keys, write_records = self._merging(self.centre, now_ms)
        try:
            messages = [message for _, of_record in said for message in of_record]
            merged, encoded = merge(self.centre, messages, now_ms, merge_keys)
        except Exception:
            self._blame(said, now_ms)
            raise
        self._row = self._counted(merged, unreadable, batch)
        entries = Publication(self._log, self.centre, self._outgoing(merged, encoded, now_ms))
        refusals = [refused_record(record, "unreadable", reason) for record, reason in unreadable]

        def rows_of_refused() -> list[dict[str, Any]]:
            rows = refused_rows(merged, unreadable, self._limits.topic_prefix, batch.batch_id, now_ms)
            return [*rows, *foreign_rows(entries.foreign, self._limits.topic_prefix, batch.batch_id, now_ms)]

        def note(seconds: Seconds) -> None:
            self._tables.forget(merged.forgotten)
            self._owes_everything = False
            self._set_alarm()
            self._note(len(records), merged, seconds)

        return BatchOutcome(
            steps={
                ENTRIES: BatchStep(act=entries.publish, target="the replica topic"),
                **self._writing(merged, encoded, rows_of_refused, write_records, batch, now_ms),
            },
            refused=[*refusals, *refused_by_centre(merged, said)],
            then=note,
        )

    def _durable_centre(self, position: int) -> Centre:
        """Make the centre that the tables lead to."""
        loaded = self._tables.load()
        centre = Centre(
            loaded.records,
            loaded.recents,
            loaded.regions,
            loaded.open_gaps,
            position=position,
            forgotten_through=loaded.centre.forgotten_through,
            limits=self._limits.limits,
            tombstone_age_ms=self._limits.tombstone_age_ms,
            ask_again_ms=self._limits.ask_again_ms,
            topic=self._replica_topic,
        )
        centre.meet_topics(self._state_topics)
        return centre

    def _read(self, records: Sequence[StateInput]) -> tuple[list[Said], list[Unreadable]]:
        """Return what the records say, and of those that say nothing the reason."""
        said: list[Said] = []
        unreadable: list[Unreadable] = []
        for record in records:
            read = self._isolation.judge(place_of(record), partial(self._read_one, record))
            if isinstance(read, Indigestible):
                unreadable.append((record, read.reason))
            elif isinstance(read, StateRefusedError):
                unreadable.append((record, str(read)))
            else:
                said.append((record, read))
        return said, unreadable

    def _read_one(self, record: StateInput) -> list[UpMessage] | StateRefusedError:
        try:
            said = read_state(record, self._limits.topic_prefix, self._limits.policies)
            return [self.centre.numbered(message) for message in said]
        except StateRefusedError as error:
            return error

    def _blame(self, said: Iterable[Said], now_ms: int) -> None:
        """Find the record that cannot be merged, one after another on a centre as the tables have it, and note it.

        Raises:
            Exception: what the record to blame leads to. Without one, it was no record's fault.
        """
        centre = self._durable_centre(self.centre.position)
        for record, messages in said:
            with self._isolation.applying(place_of(record)):
                merge(centre, messages, now_ms, None)

    def _counted(self, merged: Merged, unreadable: Sequence[Unreadable], batch: BatchId) -> CentreRow:
        """Count what happened to the regions' messages, once for each batch."""
        said = [(region_of_topic(r.topic, STATE, self._limits.topic_prefix), reason) for r, reason in unreadable]
        repeated = self._row.last_batch == tuple(batch)
        counts = self._row.counts if repeated else counted(self._row, merged, said).counts
        return CentreRow(
            forgotten_through=self.centre.forgotten_through,
            counts=counts,
            last_batch=(batch.query_id, batch.batch_id),
            replica_topic=self._replica_topic,
        )

    def _outgoing(self, merged: Merged, encoded: Mapping[str, bytes], now_ms: int) -> list[LogRecord]:
        entries = self.centre.everything(now_ms) if self._owes_everything else []
        outgoing = [record for entry in (*entries, *merged.entries) for record in self._entry(entry, encoded)]
        for key, text in encoded.items():
            self._digests.put(key, encoded_hash(text))
        for key in merged.forgotten:
            self._digests.drop(key)
        if now_ms >= self._next_digest_ms:
            outgoing.append(write_entry(self.centre.digest_entry(self._digests.buckets)))
            self._next_digest_ms = now_ms + self._limits.digest_every_ms
        return outgoing

    def _entry(self, entry: Entry, encoded: Mapping[str, bytes]) -> list[LogRecord]:
        if not isinstance(entry, RecordEntry):
            written = write_entry(entry)
            # A bucket's list of keys may be larger: rare, and repeated.
            return [written] if len(written.value or b"") <= _LARGEST else []
        key = entry.record.key
        text = encoded.get(key) or encode_record(entry.record)
        if len(text) > _LARGEST:
            log.error("record too large to publish", extra={"fields": {"key": key, "bytes": len(text)}})
            return []
        return [record_entry(key, text)]

    def _writing(
        self,
        merged: Merged,
        encoded: Mapping[str, bytes],
        refused: Callable[[], list[dict[str, Any]]],
        write_records: WriteRecords,
        batch: BatchId,
        now_ms: int,
    ) -> dict[str, BatchStep]:
        """Make the steps that write the tables. Their rows are made when regions have what they wait for."""
        tables, centre, transaction = self._tables, self.centre, Transaction(*batch)

        def records() -> None:
            tables.keep(merged.records)
            if merged.records or tables.forgetting:
                write_records(record_rows(merged.records, centre.recents, encoded, now_ms), now_ms)

        def regions() -> None:
            if merged.regions or self._owes_everything or refused():
                tables.write_regions(centre.regions.values(), self._row, centre.position, now_ms)

        return {
            CONFLICTS: BatchStep(
                act=lambda: tables.add_conflicts(merged.conflicts, batch.batch_id, now_ms),
                done=tables.look_for_conflicts,
            ),
            RECORDS: BatchStep(act=records),
            GAPS: BatchStep(act=lambda: tables.write_gaps(merged.gaps, now_ms)),
            REFUSED: BatchStep(
                act=lambda: tables.add_refused(refused(), transaction, now_ms),
                done=lambda: tables.has_refused(transaction),
            ),
            REGIONS: BatchStep(act=regions),
        }

    def _set_alarm(self) -> None:
        self._wake_at(next_due_ms(self.centre.regions.values(), self._limits.limits.park_ms))

    def _note(self, records: int, merged: Merged, seconds: Seconds) -> None:
        metrics.UPDATES.inc(len(merged.merged))
        metrics.CONFLICTS.inc(len(merged.conflicts))
        metrics.RECORDS_HELD.set(len(self.centre.records))
        fields = {"records": records, "updates": len(merged.merged), "keys": len(merged.records)}
        fields |= {f"{step}_ms": round(spent * 1_000) for step, spent in seconds.items()}
        log.debug("batch", extra={"fields": fields})


def _say_replaced(before: str, now: str) -> None:
    log.warning(
        "the replica topic was made anew; all records are published again, and regions read them",
        extra={"fields": {"topic_id_before": before, "topic_id_now": now}},
    )


def merge(
    centre: Centre, messages: Sequence[UpMessage], now_ms: int, merge_keys: MergeKeys | None
) -> tuple[Merged, dict[str, bytes]]:
    """Let a centre take messages; return what they lead to, and the changed records' encodings by key."""
    merged = centre.merge_batch(messages, now_ms, merge_keys)
    return merged, {key: encode_record(record) for key, record in merged.records.items()}
