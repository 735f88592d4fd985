"""Which updates may be obeyed: the stamp, the state and the life that each claims, before anything is merged.

Refusing here keeps a mistaken or hostile region from silencing others: a vector or a stamp that nobody checked would
decide merges for as long as it is ahead.
"""

from collections.abc import Iterable

from thalweg.sync.centre.known_regions import KnownRegion
from thalweg.sync.protocol.entries import PlainWrite, Update, UpMessage
from thalweg.sync.protocol.records import KeyRefusedError, checked_key, malformed
from thalweg.sync.protocol.stamps import Actor, StampError, checked_stamp


def refusal(update: Update, actor: Actor, known: KnownRegion | None) -> str | None:
    """Return why an update of a writer cannot be obeyed, or None."""
    stamp, record = update.stamp, update.record
    try:
        checked_stamp(stamp)
        checked_key(record.key)
    except (StampError, KeyRefusedError) as error:
        return str(error)
    if (wrong := malformed(record)) is not None:
        return wrong
    if known is None or stamp.epoch > known.epoch:
        return f"update of epoch {stamp.epoch}; {current_life(known)}"
    if stamp.seq == 0 or record.vector.get(actor) != stamp.seq:
        return (
            f"stamp has sequence {stamp.seq} but the record's vector says {record.vector.get(actor)} for "
            f"{actor}; they must be the same number above 0"
        )
    if record.version != stamp.version:
        return f"stamp has version {stamp.version} but the record {record.version}; they must be the same"
    at = record.at
    if at != (stamp.ms, stamp.counter, stamp.region):
        return f"stamp {tuple(stamp.hlc)} is not the record's newest, {tuple(at)}; the writer must stamp later"
    if stamp.epoch == known.epoch and stamp.seq <= known.last_seq and at > known.last_at:
        return (
            f"sequence {stamp.seq} of {actor} is stamped later than sequence {known.last_seq}; "
            "the store was restored from a copy: begin a new epoch"
        )
    return None


def current_life(known: KnownRegion | None) -> str:
    """Say in words which life of a region is current."""
    if known is None:
        return "the region has not joined; send a join first"
    return f"current is epoch {known.epoch}{'' if known.member else ', which has left'}; join with a higher one"


def newest_of(messages: Iterable[UpMessage]) -> dict[str, int]:
    """Return the highest sequence of each writer among the messages."""
    newest: dict[str, int] = {}
    for message in messages:
        if isinstance(message, Update | PlainWrite):
            actor, seq = message.stamp.actor, message.stamp.seq
            if seq > newest.get(actor, 0):
                newest[actor] = seq
    return newest
