"""A region's replica: reads locally, writes locally, sends later, applies what the centre publishes.

Pure rules over a store. The store is memory in the simulator and SQLite in a region; what is in the store survives, and
everything else a replica knows may be lost at any moment.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import msgspec

from thalweg.sync.protocol.changes import Change, Delete, changed_fields, changed_record, is_delete
from thalweg.sync.protocol.digests import BUCKETS, bucket_of, differing_buckets
from thalweg.sync.protocol.entries import (
    BucketEntry,
    DigestEntry,
    Entry,
    ForgetEntry,
    Heartbeat,
    Join,
    Leave,
    RecordEntry,
    RegionEntry,
    RepairRequest,
    Update,
)
from thalweg.sync.protocol.gaps import Range
from thalweg.sync.protocol.merge import merge
from thalweg.sync.protocol.records import MAX_RECORD_BYTES, Record, canonical, checked_key, view
from thalweg.sync.protocol.stamps import DEFAULT_LIMITS, FIRST_STORE_EPOCH, ZERO, Hlc, Stamp, actor_of, observed, tick
from thalweg.sync.protocol.vectors import dominates


class ReplicaError(Exception):
    """Base of what a replica refuses."""


class NotJoinedError(ReplicaError):
    """The store has never met the centre, so a write could bring back what was deleted and forgotten."""

    def __init__(self, region: str) -> None:
        super().__init__(f"replica of {region!r} has not joined yet; connect it to the broker once, then write offline")


class FencedError(ReplicaError):
    """A newer life of the region exists; this store is obsolete."""

    def __init__(self, region: str, epoch: int, current: int) -> None:
        super().__init__(
            f"replica of {region!r} has epoch {epoch}, but epoch {current} has joined since: this store is an old "
            "copy. Remove its file and start again; it will load a snapshot"
        )


class RecordTooLargeError(ReplicaError):
    """The record would not fit into a message."""

    def __init__(self, key: str, size_bytes: int) -> None:
        super().__init__(
            f"record {key[:80]!r} would be {size_bytes} bytes; allowed are {MAX_RECORD_BYTES}. Store the value "
            "elsewhere and replicate its address"
        )


class ReplicaState(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica must not forget about itself."""

    region: str
    epoch: int = 0
    seq: int = 0  # newest write
    confirmed: int = 0  # every write up to here is durable at the centre
    clock: Hlc = ZERO
    position: int = 0  # everything published before this position is applied
    joined: bool = False
    current_epoch: int = 0  # of the region, as the centre last said; above `epoch` we are fenced


class ReplicaStore(Protocol):
    """Where a replica's records, its unconfirmed writes and its state rest."""

    def transaction(self) -> AbstractContextManager[object]:
        """Make what happens inside durable as one, or not at all."""

    def load_state(self) -> ReplicaState | None:
        """Return the saved state; None for a new store."""

    def save_state(self, state: ReplicaState) -> None:
        """Save the state."""

    def get(self, key: str) -> Record | None:
        """Return a record, tombstones included."""

    def put(self, record: Record) -> None:
        """Add a record or replace it."""

    def drop(self, key: str) -> None:
        """Remove a record."""

    def keys_in(self, bucket: int) -> list[str]:
        """Return the keys of a bucket."""

    def bucket_digests(self) -> Sequence[int]:
        """Return the digest of every bucket."""

    def add_unconfirmed(self, update: Update) -> None:
        """Keep a write until the centre has it."""

    def unconfirmed(self, after_seq: int, limit: int) -> list[Update]:
        """Return kept writes after a sequence, ascending."""

    def confirm(self, through_seq: int) -> None:
        """Stop keeping writes up to this sequence."""


class Replica:
    """One region's copy."""

    def __init__(self, region: str, store: ReplicaStore) -> None:
        self.store = store
        self.state = store.load_state() or ReplicaState(region=region)
        if self.state.region != region:
            raise ReplicaError(
                f"the store belongs to region {self.state.region!r}, not to {region!r}; open another file"
            )
        self._actor = actor_of(region, self.state.epoch)
        # Whether what was sent before a restart arrived is not known: the centre says, or it is sent again.
        self._sent = self.state.confirmed
        self._wanted: list[Range] = []
        self.centre_offset_ms: int | None = None  # the centre's clock minus ours, when it last spoke
        self.digest_position = 0
        self.digest_agrees: bool | None = None
        self.differing: tuple[int, ...] = ()

    @property
    def fenced(self) -> bool:
        """Say whether a newer life of the region exists, so that this store is obsolete."""
        return self.state.current_epoch > self.state.epoch

    # ---- reading and writing -------------------------------------------------------------------------------------

    def read(self, key: str) -> dict[str, Any] | None:
        """Return the record's value, own unconfirmed writes included; None if there is none."""
        return view(self.store.get(key))

    def delete(self, key: str, now_ms: int) -> Update:
        """End a record; see `write`."""
        return self.write(key, (Delete(),), now_ms)

    def write(self, key: str, changes: Sequence[Change], now_ms: int) -> Update:
        """Write and return the update; when this returns the write is durable here and will reach everybody.

        Raises:
            NotJoinedError: The store has never met the centre.
            FencedError: The store is an old copy.
            KeyRefusedError: The key cannot be used.
            ChangeRefusedError: A change is impossible.
            RecordTooLargeError: The record would not fit into a message.
        """
        state = self.state
        if not state.joined:
            raise NotJoinedError(state.region)
        if self.fenced:
            raise FencedError(state.region, state.epoch, state.current_epoch)
        at = tick(state.clock, now_ms, state.region)
        seq = state.seq + 1
        record = changed_record(checked_key(key), self.store.get(key), changes, self._actor, seq, at)
        stamp = Stamp(
            ms=at.ms, counter=at.counter, region=at.region, epoch=state.epoch, seq=seq, version=record.version
        )
        update = Update(record, stamp, changed_fields(changes), is_delete(changes))
        size = len(canonical(update))
        if size > MAX_RECORD_BYTES:
            raise RecordTooLargeError(key, size)
        with self._durably():
            self.store.put(record)
            self.store.add_unconfirmed(update)
            self._save(seq=seq, clock=at)
        return update

    # ---- sending -------------------------------------------------------------------------------------------------

    def join(self, now_ms: int) -> Join:
        """Return the request to join, beginning a life if the store has none or an obsolete empty one.

        To be called once the replica topic was read to its end (`may_join`): it names the lives of earlier stores of
        this region, which a new life must be above, however the clocks stand.
        """
        epoch = self.state.epoch
        # An epoch far ahead was drawn by a wrong clock, and the centre does not take it.
        unusable = epoch == 0 or self.state.current_epoch > epoch or epoch > now_ms + DEFAULT_LIMITS.refuse_ms
        if not self.state.joined and unusable:
            epoch = max(now_ms, self.state.current_epoch + 1, FIRST_STORE_EPOCH)
            with self._durably():
                self._save(epoch=epoch)
            self._actor = actor_of(self.state.region, epoch)
        return Join(region=self.state.region, epoch=epoch, at_ms=now_ms)

    def may_join(self, end: int | None) -> bool:
        """Say whether a life has begun, or the topic was read to this end of it, so that one may begin."""
        return self.state.epoch != 0 or (end is not None and self.state.position >= end)

    def leave(self) -> Leave:
        """Return the farewell; only useful once nothing is unconfirmed."""
        return Leave(region=self.state.region, epoch=self.state.epoch, last_seq=self.state.seq)

    def outgoing(self, limit: int = 500) -> list[Update]:
        """Return updates to send now: first those asked for again, then new ones."""
        updates: list[Update] = []
        for first, last in self._wanted:
            few = min(last - first + 1, limit - len(updates))  # the centre asks for the rest when these have come
            updates += [u for u in self.store.unconfirmed(first - 1, few) if u.stamp.seq <= last]
        self._wanted = []
        new = self.store.unconfirmed(self._sent, limit)
        if new:
            self._sent = new[-1].stamp.seq
        return updates + new

    def send_again(self) -> None:
        """Let everything unconfirmed be sent again: the connection was lost, or the centre has been silent."""
        self._sent = self.state.confirmed

    def heartbeat(self, now_ms: int) -> Heartbeat:
        """Return what this replica has applied, written and sent."""
        state = self.state
        return Heartbeat(
            region=state.region,
            epoch=state.epoch,
            position=state.position,
            last_seq=state.seq,
            sent_seq=self._sent,
            at_ms=now_ms,
            waiting=state.seq - state.confirmed,
            agrees=self.digest_agrees,
            compared_at=self.digest_position,
        )

    def repair_request(self) -> RepairRequest | None:
        """Return a request for the buckets found different, once."""
        if not self.differing:
            return None
        buckets, self.differing = self.differing, ()
        return RepairRequest(region=self.state.region, epoch=self.state.epoch, buckets=buckets)

    # ---- applying ------------------------------------------------------------------------------------------------

    def restore(self, records: Iterable[Record], position: int, clock: Hlc) -> None:
        """Load a snapshot; own unconfirmed writes stay."""
        with self._durably():
            for record in records:
                self._merge(record)
            self._save(position=max(self.state.position, position), clock=observed(self.state.clock, clock))

    def apply(self, entries: Iterable[Entry], position: int, now_ms: int) -> None:
        """Apply what the centre published, in its order; afterwards everything before `position` is applied."""
        with self._durably():
            clock = self.state.clock
            for entry in entries:
                match entry:
                    case RecordEntry():
                        clock = observed(clock, self._merge(entry.record).at)
                    case RegionEntry():
                        if entry.region == self.state.region:
                            clock = self._hear(entry, clock, now_ms)
                    case ForgetEntry():
                        self._forget(entry)
                    case DigestEntry():
                        self._compare(entry, position)
                    case BucketEntry():
                        self._clear(entry)
            self._save(position=max(self.state.position, position), clock=clock)

    def _merge(self, record: Record) -> Record:
        known = self.store.get(record.key)
        merged = merge(known, record)
        if merged is not known:
            self.store.put(merged)
        return merged

    def _forget(self, entry: ForgetEntry) -> None:
        known = self.store.get(entry.key)
        if known is not None and dominates(entry.vector, known.vector):
            self.store.drop(entry.key)

    def _hear(self, entry: RegionEntry, clock: Hlc, now_ms: int) -> Hlc:
        """Take what the centre says about this region."""
        self.centre_offset_ms = entry.centre_ms - now_ms
        state = self.state
        if entry.epoch != state.epoch or not entry.member:
            closed = entry.epoch > state.epoch or (entry.epoch == state.epoch and not entry.member)
            if closed:
                self._save(current_epoch=max(state.current_epoch, entry.epoch + (entry.epoch == state.epoch)))
            return clock
        if entry.contiguous > state.confirmed:
            self.store.confirm(entry.contiguous)
        self._save(joined=True, confirmed=max(state.confirmed, entry.contiguous))
        self._sent = max(self._sent, self.state.confirmed)
        self._wanted = list(entry.missing)
        return clock if entry.clock is None else observed(clock, entry.clock)

    def _compare(self, entry: DigestEntry, position: int) -> None:
        """Compare with the centre at exactly this place of its order; own unconfirmed writes may differ."""
        differing = differing_buckets(self.store.bucket_digests(), entry.buckets)
        if differing:
            own = self.store.unconfirmed(self.state.confirmed, self.state.seq - self.state.confirmed)
            busy = {bucket_of(update.record.key) for update in own}
            differing = [bucket for bucket in differing if bucket not in busy]
        self.differing = tuple(differing)
        self.digest_agrees = not self.differing
        self.digest_position = position

    def _clear(self, entry: BucketEntry) -> None:
        """Drop what the centre has forgotten: it has merged all its writes and does not list the key."""
        if not 0 <= entry.bucket < BUCKETS:
            return
        listed = set(entry.keys)
        for key in self.store.keys_in(entry.bucket):
            known = self.store.get(key)
            if key not in listed and known is not None and dominates(entry.merged, known.vector):
                self.store.drop(key)

    @contextmanager
    def _durably(self) -> Iterator[None]:
        """Make what happens inside durable as one; if that fails, this object is as before."""
        before = self.state
        try:
            with self.store.transaction():
                yield
        except BaseException:
            self.state = before
            raise

    def _save(self, **changed: Any) -> None:
        self.state = msgspec.structs.replace(self.state, **changed)
        self.store.save_state(self.state)
