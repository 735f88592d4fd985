"""What one micro-batch does to one key: the merged record, the recent writes, the conflicts.

Pure and separate per key, so a small batch runs it on the driver and a large one in Spark tasks, with the same result.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from thalweg.sync.protocol.changes import changed_fields, changed_record, is_delete
from thalweg.sync.protocol.conflicts import Conflict, KeptWrite, Write, found_conflicts, kept
from thalweg.sync.protocol.entries import PlainWrite, Update
from thalweg.sync.protocol.merge import merge, merged_fields
from thalweg.sync.protocol.policies import MergePolicy
from thalweg.sync.protocol.records import Record, checked_key
from thalweg.sync.protocol.stamps import Hlc, StampError, checked_stamp
from thalweg.sync.protocol.vectors import covers, dominates

Recent = tuple[KeptWrite, ...]


class Admitted(msgspec.Struct, frozen=True, array_like=True):
    """A message that may be merged, under the name it has in version vectors."""

    message: Update | PlainWrite
    actor: str
    seq: int

    @property
    def key(self) -> str:
        """The record's key."""
        return self.message.record.key if isinstance(self.message, Update) else self.message.key


class KeyOutcome(msgspec.Struct, kw_only=True):
    """What became of one key."""

    record: Record | None
    recent: Recent
    dots: tuple[tuple[str, int], ...] = ()  # writes that are new here
    conflicts: list[Conflict] = []
    refused: list[tuple[Update | PlainWrite, str]] = []


def merge_key(
    known: Record | None, recent: Recent, admitted: Sequence[Admitted], forgotten_through: Hlc, now_ms: int
) -> KeyOutcome:
    """Merge a key's messages in their order.

    Args:
        known: The record so far.
        recent: Its writes that some region may not have seen yet.
        admitted: In order of arrival.
        forgotten_through: Newest delete that was forgotten; a plain write older than that may not begin a record.
        now_ms: For the conflicts' rows.
    """
    out = KeyOutcome(record=known, recent=recent)
    writes = list(recent)
    newest = newest_writes(recent)
    dots: list[tuple[str, int]] = []
    for item in admitted:
        try:
            record, write = _merged(out.record, item, forgotten_through)
        except (ValueError, TypeError, KeyError) as error:
            # One message that cannot be merged must not stop the others for ever.
            out.refused.append((item.message, f"cannot be merged: {error}"))
            continue
        out.record = record
        actor, seq = write.actor, write.seq
        if seq <= newest.get(actor, 0):
            # A batch taken again finds its writes merged and their conflicts found.
            if any(other.seq == seq and other.actor == actor for other in writes):
                continue
        else:
            newest[actor] = seq
        if not dominates(write.vector, newest):  # else its writer had seen all of them
            out.conflicts += found_conflicts(record.key, write, writes, now_ms)
        writes.append(kept(write))
        dots.append((actor, seq))
    out.recent, out.dots = tuple(writes), tuple(dots)
    return out


def newest_writes(recent: Iterable[KeptWrite]) -> dict[str, int]:
    """Return the highest sequence of each writer."""
    newest: dict[str, int] = {}
    for write in recent:
        if write.seq > newest.get(write.actor, 0):
            newest[write.actor] = write.seq
    return newest


def _merged(known: Record | None, item: Admitted, forgotten_through: Hlc) -> tuple[Record, Write]:
    if isinstance(item.message, PlainWrite):
        return _with_plain(known, item.message, item.actor, item.seq, forgotten_through)
    update = item.message
    value = None if update.deletes else changed_value(update.record, update.changed)
    write = Write(item.actor, item.seq, update.record.at, update.record.vector, update.changed, value, update.deletes)
    return merge(known, update.record), write


def _with_plain(
    known: Record | None, plain: PlainWrite, actor: str, seq: int, forgotten_through: Hlc
) -> tuple[Record, Write]:
    """Write on behalf of a producer that has seen nothing but the earlier writes of its lane."""
    at = checked_stamp(plain.stamp).hlc
    if known is None and at <= forgotten_through:
        raise StampError(
            f"stamp {tuple(at)} is older than a delete that was forgotten at {tuple(forgotten_through)}; whether it "
            "was of this key is not known any more: send it anew"
        )
    own = own_part(known, actor)
    record = changed_record(checked_key(plain.key), own, plain.changes, actor, seq, at, plain.stamp.version)
    deletes, changed = is_delete(plain.changes), changed_fields(plain.changes)
    if deletes and own is not None:
        # A producer's clock may go back: what it stamped later than this delete stays.
        kept = merged_fields(own, Record(key=plain.key, deleted=at))
        record = msgspec.structs.replace(record, counters=kept.counters, sets=kept.sets)
    value = None if deletes else changed_value(record, changed)
    if known is not None:
        record = known if covers(known.vector, actor, seq) else merged_fields(known, record)
    return record, Write(actor, seq, at, {actor: seq}, changed, value, deletes)


def own_part(record: Record | None, actor: str) -> Record | None:
    """Return what a lane of plain writes itself has counted and added; its vector claims no more than that."""
    if record is None or actor not in record.vector:
        return None
    counters = {name: {actor: tallies[actor]} for name, tallies in record.counters.items() if actor in tallies}
    sets = {
        name: {element: {actor: dots[actor]} for element, dots in elements.items() if actor in dots}
        for name, elements in record.sets.items()
    }
    return Record(key=record.key, vector={actor: record.vector[actor]}, counters=counters, sets=sets)


def changed_value(record: Record, fields: Iterable[str]) -> dict[str, Any]:
    """Return the value of the changed fields ("policy:field") as their writer saw them."""
    shown: dict[str, Any] = {}
    for name in fields:
        policy, field = policy_and_field(name)
        value_of = _VALUE_OF.get(policy)
        if value_of is None:
            raise ValueError(f"policy {policy!r} is unknown; allowed are {', '.join(MergePolicy)}")
        shown[field] = value_of(record, field)
    return shown


_VALUE_OF: Final[Mapping[str, Callable[[Record, str], Any]]] = {
    MergePolicy.LAST_WRITER: lambda record, field: record.last[field].value,
    MergePolicy.ADD_WINS_SET: lambda record, field: sorted(record.sets.get(field, ())),
    MergePolicy.COUNTER: lambda record, field: sum(tally.total for tally in record.counters[field].values()),
    MergePolicy.MAX: lambda record, field: max(register.value for register in record.maxima[field]),
    MergePolicy.MIN: lambda record, field: min(register.value for register in record.minima[field]),
}


@lru_cache(maxsize=4_096)  # asked for every write; the fields of an application are few
def policy_and_field(changed: str) -> tuple[str, str]:
    """Split "policy:field"."""
    policy, _, field = changed.partition(":")
    return policy, field
