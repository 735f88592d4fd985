"""What regions and the centre tell each other.

Up, on `state.<region>`: updates, plain writes, heartbeats, joining, leaving, requests to repair buckets. Down, on the
compacted topic `replica`, in one total order: records, forgotten keys, what the centre has of a region, digests.
"""

from typing import Annotated

import msgspec

from thalweg.sync.protocol.changes import Change
from thalweg.sync.protocol.gaps import Range
from thalweg.sync.protocol.openings import Opening
from thalweg.sync.protocol.records import Record
from thalweg.sync.protocol.stamps import Hlc, Stamp
from thalweg.sync.protocol.vectors import Vector

# ---- up ----------------------------------------------------------------------------------------------------------

Natural = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class Update(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="update"):
    """One write: the whole state after it, so that it stands alone."""

    record: Record
    stamp: Stamp
    changed: tuple[str, ...]  # "policy:field"
    deletes: bool = False
    opening: Opening | None = None  # of the store's file in which it was made; None: the store does not say


class PlainWrite(msgspec.Struct, frozen=True, tag_field="kind", tag="plain"):
    """A write of a producer that has no replica and has seen nothing; completed where it is read.

    `stamp.epoch` is the topic partition and `stamp.seq` the offset + 1, so that a replay is known as one.
    """

    key: str
    changes: tuple[Change, ...]
    stamp: Stamp


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="heartbeat"):
    """What a region has, and what it has written.

    It acknowledges everything published up to `position`. That counts once the centre has merged the region's writes
    up to `last_seq`: what it wrote before it knew may still be on its way.
    """

    region: str
    epoch: Natural
    position: Natural
    last_seq: Natural  # newest write
    sent_seq: Natural  # newest write handed to the topic before this heartbeat
    at_ms: Natural  # the region's own wall clock, for its offset
    waiting: Natural = 0  # writes not yet confirmed by the centre
    agrees: bool | None = None  # with the centre's digests at `compared_at`; None: never compared
    compared_at: Natural = 0
    openings: tuple[Opening, ...] = ()  # of the store's file, the present one last; (): the store does not say
    topic: str = ""  # id of the replica topic that the positions lie in; "": the region does not say
    opened_at: Natural = 0  # position at which the store's file was opened
    opened_in: str = ""  # and the topic that this one lies in


class Join(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="join"):
    """A new life of a region: from now on its acknowledgement is needed before anything is forgotten."""

    region: str
    epoch: Natural
    at_ms: Natural
    position: Natural | None = None  # what it has written already builds on everything before; None: nothing written
    topic: str = ""  # that the position lies in


class Leave(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="leave"):
    """The region ends this life after its update `last_seq`; its acknowledgements are not waited for any more."""

    region: str
    epoch: Natural
    last_seq: Natural


class RepairRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="repair"):
    """The region's digests of these buckets differ from the centre's at the same position."""

    region: str
    epoch: Natural
    buckets: tuple[Annotated[int, msgspec.Meta(ge=0, lt=256)], ...]


UpMessage = Update | PlainWrite | Heartbeat | Join | Leave | RepairRequest

# ---- down --------------------------------------------------------------------------------------------------------


class RecordEntry(msgspec.Struct, frozen=True, tag_field="kind", tag="record"):
    """The merged state of a key."""

    record: Record


class ForgetEntry(msgspec.Struct, frozen=True, tag_field="kind", tag="forget"):
    """The key's tombstone was acknowledged by every region; a state that `vector` contains may go."""

    key: str
    vector: Vector


class RegionEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="region"):
    """What the centre has of a region: confirms its writes, asks for missing ones, tells it which life is current."""

    region: str
    epoch: int
    contiguous: int  # every update up to here is durable at the centre, and merged or parked
    centre_ms: int
    missing: tuple[Range, ...] = ()
    member: bool = True
    clock: Hlc | None = None  # newest stamp the centre has admitted; a joining region starts after it
    newest: int = 0  # highest sequence that has arrived
    openings: tuple[Opening, ...] = ()  # of the store's file that have spoken, ascending
    replaced: tuple[int, ...] = ()  # tokens of openings that a later one has replaced
    refused_from: int = 0  # from this sequence on nothing of the life is taken; 0: everything is
    copied: bool = False  # why: a copy of the store goes on that knows less than the store had acknowledged


class DigestEntry(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="digest"):
    """The centre's digests of everything before this entry."""

    buckets: str  # 16 hexadecimal digits each


class BucketEntry(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="bucket"):
    """After a repair: these are all the keys of the bucket; other keys whose writes are all `merged` were forgotten."""

    bucket: int
    keys: tuple[str, ...]
    merged: dict[str, int]  # actor -> sequence


Entry = RecordEntry | ForgetEntry | RegionEntry | DigestEntry | BucketEntry
