"""One micro-batch of replication: state records in; merged, published, written.

The order survives a crash anywhere (`sync.centre.centre`): publish, dead letters, conflicts, records, gaps, and the
regions last. Kafka keeps the batch until all of it is done, so a crash means that the same batch is taken once more.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pyarrow as pa

from thalweg.streams.broker.deadletter import RefusedRecord
from thalweg.streams.contract.state_messages import Policies, StateInput, StateRefusedError, read_state
from thalweg.streams.contract.topics import REPLICA, STATE, region_of_topic, topic_name
from thalweg.streams.replication.replica_log import LogRecord, ReplicaLog, record_entry, write_entry
from thalweg.sync.centre.centre import Centre, MergeKeys, Outcome
from thalweg.sync.protocol.digests import DigestLedger, encoded_hash
from thalweg.sync.protocol.entries import Entry, PlainWrite, RecordEntry, Update, UpMessage
from thalweg.sync.protocol.records import encode_record
from thalweg.sync.protocol.stamps import FutureLimits
from thalweg.sync.tables.centre_row import CentreRow
from thalweg.sync.tables.replicate_tables import ReplicateTables, counted, message_key, record_rows

FLOW_NAME = "replicate"
_LARGEST = REPLICA.max_message_bytes - 4_096  # room for the record's key and headers
_ENCODER = msgspec.json.Encoder()
log = logging.getLogger("thalweg.replicate")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationLimits:
    """What `Replication` needs of the settings."""

    topic_prefix: str
    policies: Policies
    limits: FutureLimits
    tombstone_age_ms: int
    ask_again_ms: int
    digest_every_ms: int


@dataclass(slots=True, kw_only=True)
class BatchReport:
    """What a batch did, for logs, metrics and the dead letters."""

    records: int
    updates: int = 0
    keys: int = 0
    conflicts: int = 0
    parked: int = 0
    gaps: int = 0
    refused: list[RefusedRecord] = field(default_factory=list)
    steps_ms: dict[str, float] = field(default_factory=dict)


WriteRecords = Callable[[pa.Table, int], None]
Refuse = Callable[[Sequence[RefusedRecord]], None]


class Replication:
    """The centre over its tables and its topic."""

    def __init__(
        self, tables: ReplicateTables, log: ReplicaLog, refuse: Refuse, limits: ReplicationLimits, position: int
    ) -> None:
        """Start from the tables.

        Args:
            tables: the centre's.
            log: the replica topic.
            refuse: writes dead letters, and returns when they are acknowledged.
            limits: from the settings.
            position: end of the replica topic.
        """
        self._tables = tables
        self._log = log
        self._refuse = refuse
        self._limits = limits
        loaded = tables.load()
        self._row = loaded.centre
        self.centre = Centre(
            loaded.records,
            loaded.recents,
            loaded.regions,
            loaded.open_gaps,
            position=position,
            forgotten_through=loaded.centre.forgotten_through,
            limits=limits.limits,
            tombstone_age_ms=limits.tombstone_age_ms,
            ask_again_ms=limits.ask_again_ms,
        )
        self._digests = DigestLedger()
        for key, record in self.centre.records.items():
            self._digests.put(key, encoded_hash(encode_record(record)))
        self._next_digest_ms = 0

    def take(
        self,
        records: Sequence[StateInput],
        batch_id: int,
        now_ms: int,
        merge_keys: MergeKeys | None = None,
        write_records: WriteRecords | None = None,
    ) -> BatchReport:
        """Take one micro-batch; safe to repeat with the same records.

        Args:
            records: of the state topics, in order of offset within a partition.
            batch_id: the micro-batch's.
            now_ms: the wall clock.
            merge_keys: merges elsewhere (Spark); None merges here.
            write_records: writes the record rows, given the time, elsewhere; None writes them here.
        """
        report = BatchReport(records=len(records))
        started = time.perf_counter()
        readable, unreadable = self._read(records, report)
        read = time.perf_counter()
        out = self.centre.take((one for _, said in readable for one in said), now_ms, merge_keys)
        merged = time.perf_counter()
        encoded = {key: encode_record(record) for key, record in out.records.items()}
        foreign = self._publish(out, encoded, now_ms)
        report.refused += _refused_by_centre(out, readable)
        if report.refused:
            # Before the regions' state, by which a repeated batch would know the message and not refuse it again.
            self._refuse(report.refused)
        published = time.perf_counter()
        rows = _refused_rows(out, unreadable, self._limits.topic_prefix, batch_id, now_ms)
        rows += [_foreign_row(foreign, self._limits.topic_prefix, batch_id, now_ms)] if foreign else []
        self._write(out, encoded, unreadable, rows, batch_id, now_ms, write_records or self._tables.write_records)
        written = time.perf_counter()
        report.updates, report.keys = len(out.merged), len(out.records)
        report.conflicts, report.parked, report.gaps = len(out.conflicts), len(out.parked), len(out.gaps)
        report.steps_ms = {
            "read": (read - started) * 1000,
            "merge": (merged - read) * 1000,
            "publish": (published - merged) * 1000,
            "write": (written - published) * 1000,
        }
        return report

    # ---- the steps -----------------------------------------------------------------------------------------------

    def _read(
        self, records: Sequence[StateInput], report: BatchReport
    ) -> tuple[list[tuple[StateInput, list[UpMessage]]], list[tuple[StateInput, str]]]:
        """Return what the records say, and of those that say nothing the reason."""
        readable: list[tuple[StateInput, list[UpMessage]]] = []
        unreadable: list[tuple[StateInput, str]] = []
        for record in records:
            try:
                readable.append((record, read_state(record, self._limits.topic_prefix, self._limits.policies)))
            except MemoryError:
                raise  # says nothing about the record
            except Exception as error:
                known = isinstance(error, StateRefusedError)
                reason = str(error) if known else f"it cannot be processed ({type(error).__name__}: {str(error)[:500]})"
                unreadable.append((record, reason))
                report.refused.append(_refused_record(record, "unreadable", reason))
        return readable, unreadable

    def _publish(self, out: Outcome, encoded: Mapping[str, bytes], now_ms: int) -> range:
        """Publish; return the positions that somebody else has written since the last time."""
        outgoing: list[LogRecord] = []
        for entry in out.entries:
            outgoing += self._outgoing(entry, encoded)
        for key, text in encoded.items():
            self._digests.put(key, encoded_hash(text))
        for key in out.forgotten:
            self._digests.drop(key)
        if now_ms >= self._next_digest_ms:
            outgoing.append(write_entry(self.centre.digest_entry(self._digests.buckets)))
            self._next_digest_ms = now_ms + self._limits.digest_every_ms
        expected = self.centre.position
        end = max(self._log.publish(outgoing), expected)
        self.centre.published(end)
        return range(expected, end - len(outgoing)) if outgoing else range(0)

    def _outgoing(self, entry: Entry, encoded: Mapping[str, bytes]) -> list[LogRecord]:
        if not isinstance(entry, RecordEntry):
            written = write_entry(entry)
            return (
                [written] if len(written.value or b"") <= _LARGEST else []
            )  # a bucket's list of keys; rare and repeated
        key = entry.record.key
        text = encoded.get(key) or encode_record(entry.record)
        if len(text) > _LARGEST:
            log.error("record too large to publish", extra={"fields": {"key": key, "bytes": len(text)}})
            return []
        return [record_entry(key, text)]

    def _write(
        self,
        out: Outcome,
        encoded: Mapping[str, bytes],
        unreadable: Sequence[tuple[StateInput, str]],
        refused: Sequence[Mapping[str, Any]],
        batch_id: int,
        now_ms: int,
        write_records: WriteRecords,
    ) -> None:
        tables = self._tables
        tables.add_conflicts(out.conflicts, batch_id, now_ms)
        tables.keep(out.records)
        if out.records or tables.forgetting:
            write_records(record_rows(out.records, self.centre.recents, encoded, now_ms), now_ms)
        tables.write_gaps(out.gaps, now_ms)
        tables.add_refused(refused, now_ms)
        said = [(region_of_topic(r.topic, STATE, self._limits.topic_prefix), reason) for r, reason in unreadable]
        counts = counted(self._row, out, said).counts
        self._row = CentreRow(forgotten_through=self.centre.forgotten_through, counts=counts)
        if out.regions or refused:
            tables.write_regions(self.centre.lives.values(), self._row, self.centre.position, now_ms)
        tables.forget(out.forgotten)


def _refused_by_centre(out: Outcome, readable: Iterable[tuple[StateInput, Sequence[UpMessage]]]) -> list[RefusedRecord]:
    """Make the dead letters of what the centre refused; of a batch only the message itself."""
    if not out.refused:
        return []
    origins = {id(message): record for record, said in readable for message in said}
    found = []
    for refusal in out.refused:
        origin = origins.get(id(refusal.message))
        if origin is not None:  # else it was parked before, and its record is gone
            letter = _refused_record(origin, "refused", refusal.reason)
            if not isinstance(refusal.message, PlainWrite):
                letter = replace(letter, value=_ENCODER.encode(refusal.message))
            found.append(letter)
    return found


def _refused_record(record: StateInput, rule: str, reason: str) -> RefusedRecord:
    return RefusedRecord(
        flow=FLOW_NAME,
        rule=rule,
        reason=reason[:1_000],
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        received_ms=record.timestamp_ms,
    )


def _refused_rows(
    out: Outcome, unreadable: Iterable[tuple[StateInput, str]], prefix: str, batch_id: int, now_ms: int
) -> list[dict[str, Any]]:
    at = pa.scalar(now_ms * 1000, pa.timestamp("us", tz="UTC")).as_py()
    rows: list[dict[str, Any]] = [
        {
            "at": at,
            "region": region_of_topic(record.topic, STATE, prefix),
            "verdict": "refused",
            "key": (record.key or b"").decode(errors="replace")[:1_024],
            "reason": reason[:1_000],
            "topic": record.topic,
            "topic_partition": record.partition,
            "topic_offset": record.offset,
            "batch_id": batch_id,
        }
        for record, reason in unreadable
    ]
    rows += [
        {
            "at": at,
            "region": refusal.region,
            "verdict": "refused",
            "key": message_key(refusal.message),
            "reason": refusal.reason[:1_000],
            "batch_id": batch_id,
        }
        for refusal in out.refused
    ]
    rows += [_parked_row(message, at, batch_id, now_ms) for message in out.parked]
    return rows


def _foreign_row(foreign: range, prefix: str, batch_id: int, now_ms: int) -> dict[str, Any]:
    seen = "a record" if len(foreign) == 1 else f"{len(foreign)} records"
    return {
        "at": pa.scalar(now_ms * 1000, pa.timestamp("us", tz="UTC")).as_py(),
        "verdict": "foreign",
        "key": "",
        "reason": f"{seen} here that the centre did not write: only it may; readers skip what is none of its entries",
        "topic": topic_name(REPLICA, prefix),
        "topic_partition": 0,
        "topic_offset": foreign.start,
        "batch_id": batch_id,
    }


def _parked_row(message: Update | PlainWrite, at: Any, batch_id: int, now_ms: int) -> dict[str, Any]:
    stamp = message.stamp
    return {
        "at": at,
        "region": stamp.region,
        "verdict": "parked",
        "key": message_key(message),
        "reason": f"stamp is {stamp.ms - now_ms} ms ahead of the centre's clock; merged when it no longer is",
        "stamp_ms": stamp.ms,
        "stamp_counter": stamp.counter,
        "stamp_region": stamp.region,
        "batch_id": batch_id,
    }
