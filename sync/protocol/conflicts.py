"""Conflicts: every pair of writes of which neither saw the other is one row, whatever the policy made of it.

Two writes are concurrent when neither state contains the other write. The centre keeps the recent writes of each
record until every region has acknowledged them; a write older than that is contained in whatever a region writes next,
so no pair is missed and the memory is bounded.
"""

import hashlib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from thalweg.sync.protocol.records import canonical
from thalweg.sync.protocol.stamps import Hlc
from thalweg.sync.protocol.vectors import Vector


class Write(msgspec.Struct, frozen=True, array_like=True):
    """One write as its writer saw it, kept while another write may still turn out concurrent."""

    actor: str
    seq: int
    at: Hlc
    vector: Vector  # of the state after the write
    changed: tuple[str, ...]  # "policy:field"
    value: Any  # of the changed fields; None for a delete
    deletes: bool = False


class KeptWrite(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A write in the form in which it is stored, and what tells without reading it that another has seen it.

    Nearly all are forgotten without ever being read. As objects they would take many times the room, scattered among
    what each micro-batch makes and drops; and the table's rows would be encoded anew for as long as they are kept.
    """

    actor: str
    seq: int
    encoded: bytes  # JSON of the `Write`

    def read(self) -> Write:
        """Return the write."""
        return _WRITE.decode(self.encoded)


_WRITE = msgspec.json.Decoder(Write)
_ENCODER = msgspec.json.Encoder()


def kept(write: Write) -> KeptWrite:
    """Return the form in which a write is kept."""
    return KeptWrite(write.actor, write.seq, _ENCODER.encode(write))


class Resolution(StrEnum):
    """What became of the two values."""

    NEWER_WINS = "newer_wins"  # one of the two is gone from the record
    MERGED = "merged"  # both are in it
    DISJOINT = "disjoint"  # they changed different fields


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `conflicts`. `left` is the older write, `right` the newer, which wins where only one can."""

    conflict_id: str
    key: str
    policy: str
    resolution: Resolution
    left: Write
    right: Write
    found_ms: int


def found_conflicts(key: str, write: Write, recent: Iterable[KeptWrite], now_ms: int) -> list[Conflict]:
    """Return a row for each recent write that is concurrent to this one: neither writer had seen the other's."""
    seen, actor, seq = write.vector.get, write.actor, write.seq
    unseen = (other.read() for other in recent if seen(other.actor, 0) < other.seq)
    return [conflict(key, write, other, now_ms) for other in unseen if other.vector.get(actor, 0) < seq]


def without(recent: tuple[KeptWrite, ...], dots: Sequence[tuple[str, int]]) -> tuple[KeptWrite, ...]:
    """Return the writes that are not among the dots; most often the dots are the first writes, in this order."""
    first = recent[: len(dots)]
    if len(first) == len(dots) and all(
        w.seq == seq and w.actor == actor for w, (actor, seq) in zip(first, dots, strict=True)
    ):
        return recent[len(dots) :]
    gone = set(dots)
    return tuple(write for write in recent if (write.actor, write.seq) not in gone)


def conflict(key: str, one: Write, other: Write, now_ms: int) -> Conflict:
    """Make the row of a pair; the same row, id included, whichever was seen first."""
    left, right = sorted((one, other), key=lambda write: (write.at, write.actor, write.seq))
    policy, resolution = _outcome(left, right)
    return Conflict(
        conflict_id=conflict_id(key, left, right),
        key=key,
        policy=policy,
        resolution=resolution,
        left=left,
        right=right,
        found_ms=now_ms,
    )


def conflict_id(key: str, left: Write, right: Write) -> str:
    """Derive the id from the pair alone, so that a replay finds the row that is already there."""
    pair = canonical([key, left.actor, left.seq, right.actor, right.seq])
    return hashlib.blake2b(pair, digest_size=16).hexdigest()


def _outcome(left: Write, right: Write) -> tuple[str, Resolution]:
    if left.deletes or right.deletes:
        return "delete", Resolution.NEWER_WINS
    common = sorted({name.partition(":")[0] for name in set(left.changed) & set(right.changed)})
    if not common:
        return "none", Resolution.DISJOINT
    return "+".join(common), Resolution.NEWER_WINS if "last_writer" in common else Resolution.MERGED
