"""What the centre knows of a region: its present life, what has arrived of it, what it has acknowledged.

A life is an epoch of the region's store. A new life closes the earlier ones: what of them has not arrived by then is
gone with the store, and a copy of the old store that goes on writing is refused.
"""

from collections.abc import Iterable

import msgspec

from thalweg.sync.protocol.entries import Heartbeat, PlainWrite, Update
from thalweg.sync.protocol.gaps import Received
from thalweg.sync.protocol.openings import KEPT, Opening
from thalweg.sync.protocol.stamps import FIRST_STORE_EPOCH, MAX_COUNTER, ZERO, Actor, Hlc, actor_of, is_plain

# The lane of plain writes that were kept aside: beyond any topic partition, below any store's epoch.
RELEASED = FIRST_STORE_EPOCH // 2


class KnownRegionImage(msgspec.Struct, frozen=True, kw_only=True):
    """The durable form of a `KnownRegion`, one row of `sync_regions`."""

    region: str
    epoch: int
    member: bool
    contiguous: int
    above: tuple[int, ...]
    highest: int
    last_seq: int
    last_at: Hlc
    closed: dict[str, tuple[int, tuple[int, ...]]]  # actor -> contiguous, above
    plain: dict[str, int]
    released: int
    parked: tuple[Update | PlainWrite, ...]
    openings: tuple[Opening, ...] = ()
    refused_from: int = 0
    copied: bool = False
    tokens: tuple[int, ...] = ()
    furthest: int = 0
    read_topic: str = ""
    plain_topic: str = ""
    plain_base: dict[str, int] = {}


class KnownRegion:
    """One region as the centre sees it. Mutable; `image` and `region_from` are its durable form."""

    __slots__ = (
        "acked",
        "actor",
        "closed",
        "copied",
        "epoch",
        "furthest",
        "heard_ms",
        "heartbeat",
        "last_at",
        "last_seq",
        "member",
        "offset_ms",
        "openings",
        "parked",
        "pending_acks",
        "plain",
        "plain_base",
        "plain_topic",
        "read_topic",
        "received",
        "refused_from",
        "region",
        "released",
        "tokens",
    )

    def __init__(self, region: str, epoch: int) -> None:
        self.region = region
        self.epoch = epoch
        self.actor: Actor = actor_of(region, epoch)
        self.member = True
        self.received = Received()
        self.closed: dict[str, Received] = {}  # earlier lives, by actor
        self.openings: tuple[Opening, ...] = ()  # of the store's file, in which what has arrived was written
        self.refused_from = 0  # from this sequence on nothing of this life is taken; 0: everything is
        self.copied = False  # why: a copy of the store goes on that knows less than the store had acknowledged
        self.tokens: tuple[int, ...] = ()  # of openings of the store's file that have spoken, the newest last
        self.furthest = 0  # position that any of them had read to
        self.read_topic = ""  # id of the replica topic that it lies in
        self.plain: dict[str, int] = {}  # plain producers' actors -> newest sequence; a partition keeps its order
        self.plain_topic = ""  # id of the topic that plain sequences count in; "": not known
        self.plain_base: dict[str, int] = {}  # newest sequence of the topics before, which the present one counts on
        self.released = 0  # plain writes that were kept aside and merged later
        self.last_seq = 0  # highest sequence that has arrived
        self.last_at = ZERO  # its stamp
        self.parked: dict[tuple[str, int], Update | PlainWrite] = {}  # stamps ahead of time, by actor and sequence
        self.acked = 0  # every region's states up to here are contained in whatever this one writes next
        self.pending_acks: list[tuple[int, int]] = []  # (position, last_seq) that do not count yet
        self.offset_ms = 0  # its wall clock minus ours, transport included
        self.heard_ms = 0
        self.heartbeat: msgspec.Struct | None = None  # the last one, for display

    @classmethod
    def without_store(cls, region: str) -> "KnownRegion":
        """Make the life of a region of which only plain producers are known."""
        known = cls(region, 0)
        known.member = False
        return known

    def begin(self, epoch: int) -> None:
        """Begin the next life; the present one is closed."""
        if not is_plain(self.actor):
            self.closed[self.actor] = self.received
        self.epoch = epoch
        self.actor = actor_of(self.region, epoch)
        self.member = True
        self.received = Received()
        self.last_seq = 0
        self.last_at = ZERO
        self.openings = ()
        self.refused_from = 0
        self.copied = False
        self.tokens = ()
        self.furthest = 0
        self.pending_acks.clear()

    def count_on(self, topic: str) -> None:
        """Note which topic plain writes come from. In one made anew, offsets begin at 0: their sequences count on."""
        if self.plain_topic and topic != self.plain_topic:
            self.plain_base = dict(self.plain)
        self.plain_topic = topic

    def meet(self, said: Heartbeat, present: str) -> None:
        """Note how far an opening of the store's file has read. A new one that began behind the others is a copy's.

        What the others acknowledged may be forgotten everywhere, so nothing that the copy wrote is taken as it is.

        Args:
            said: by the opening.
            present: id of the replica topic there is.
        """
        token = said.openings[-1].token
        if token not in self.tokens:
            same = not said.opened_in or said.opened_in == self.read_topic
            behind = said.opened_at < self.furthest if same else bool(self.furthest) and self.read_topic == present
            if behind and not self.copied:
                self.copied = True
                self.refused_from = min(self.refused_from or MAX_COUNTER, self.received.highest + 1)
            self.tokens = (*self.tokens, token)[-KEPT:]
        if said.topic and said.topic != self.read_topic:
            if self.read_topic == present:
                return  # late
            self.read_topic, self.furthest = said.topic, 0
        self.furthest = max(self.furthest, said.position)

    def acknowledge(self, position: int, last_seq: int) -> None:
        """Note an acknowledgement and let those count whose writes have all been merged."""
        if position > self.acked:
            self.pending_acks.append((position, last_seq))
        self.settle_acks()

    def settle_acks(self) -> None:
        """Let acknowledgements count whose earlier writes have been merged."""
        if not self.pending_acks:
            return
        merged = self.merged_through()
        counting = [position for position, last_seq in self.pending_acks if last_seq <= merged]
        if counting:
            self.acked = max(self.acked, *counting)
            self.pending_acks = [ack for ack in self.pending_acks if ack[0] > self.acked]

    def merged_through(self) -> int:
        """Return the sequence up to which everything is merged; parked updates have arrived but are not merged.

        -1 while an update of an earlier life is parked: nothing that this region acknowledges counts until then.
        """
        merged = self.received.contiguous
        for actor, seq in self.parked:
            if actor == self.actor:
                merged = min(merged, seq - 1)
            elif not is_plain(actor):
                return -1
        return merged

    @property
    def holds_back(self) -> bool:
        """Say whether something of this region may yet turn out concurrent: it is a member, or has updates parked."""
        return self.member or any(not is_plain(actor) for actor, _ in self.parked)


def image(known: KnownRegion) -> KnownRegionImage:
    """Return the durable form."""
    return KnownRegionImage(
        region=known.region,
        epoch=known.epoch,
        member=known.member,
        contiguous=known.received.contiguous,
        above=tuple(known.received.above),
        highest=known.received.highest,
        last_seq=known.last_seq,
        last_at=known.last_at,
        closed={actor: (r.contiguous, tuple(r.above)) for actor, r in known.closed.items()},
        plain=dict(known.plain),
        released=known.released,
        parked=tuple(known.parked.values()),
        openings=known.openings,
        refused_from=known.refused_from,
        copied=known.copied,
        tokens=known.tokens,
        furthest=known.furthest,
        read_topic=known.read_topic,
        plain_topic=known.plain_topic,
        plain_base=dict(known.plain_base),
    )


def region_from(saved: KnownRegionImage) -> KnownRegion:
    """Read the durable form; acknowledgements are heard again."""
    known = KnownRegion(saved.region, saved.epoch)
    known.member = saved.member
    known.received = Received(saved.contiguous, saved.above, saved.highest)
    known.last_seq = saved.last_seq
    known.last_at = saved.last_at
    known.closed = {actor: Received(contiguous, above) for actor, (contiguous, above) in saved.closed.items()}
    known.plain = dict(saved.plain)
    known.released = saved.released
    known.openings = saved.openings
    known.refused_from = saved.refused_from
    known.copied = saved.copied
    known.tokens = saved.tokens
    known.furthest = saved.furthest
    known.read_topic = saved.read_topic
    known.plain_topic = saved.plain_topic
    known.plain_base = dict(saved.plain_base)
    known.parked = {(kept.stamp.actor, kept.stamp.seq): kept for kept in saved.parked}
    return known


def heard_of(regions: Iterable[KnownRegion]) -> dict[str, int]:
    """Return per actor the highest sequence that has arrived."""
    result: dict[str, int] = {}
    for known in regions:
        for actor, received in (*known.closed.items(), (known.actor, known.received)):
            result[actor] = max([received.contiguous, *received.above])
        result.update(known.plain)
        result[actor_of(known.region, RELEASED)] = known.released
    return result


def merged_of(regions: Iterable[KnownRegion]) -> dict[str, int]:
    """Return per actor the sequence up to which every update that can still come is merged."""
    result: dict[str, int] = {}
    for known in regions:
        if not is_plain(known.actor):
            result[known.actor] = known.received.contiguous
        for actor, received in known.closed.items():
            result[actor] = max([received.contiguous, *received.above])
        result.update(known.plain)
        result[actor_of(known.region, RELEASED)] = known.released
        for actor, seq in known.parked:  # arrived, not merged
            if not is_plain(actor):
                result[actor] = min(result[actor], seq - 1)
    return result
