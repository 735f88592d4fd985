"""A region's replica: reads locally, writes locally, sends later, applies what the centre publishes.

Pure rules over a store. The store is memory in the simulator and SQLite in a region; what is in the store survives, and
everything else a replica knows may be lost at any moment.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import msgspec

from thalweg.sync.protocol.changes import (
    Change,
    ChangeRefusedError,
    Delete,
    changed_fields,
    changed_record,
    is_delete,
)
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
from thalweg.sync.protocol.openings import KEPT, Opening
from thalweg.sync.protocol.records import MAX_RECORD_BYTES, Record, canonical, checked_key, view
from thalweg.sync.protocol.stamps import (
    DEFAULT_LIMITS,
    FIRST_STORE_EPOCH,
    ZERO,
    Actor,
    Hlc,
    Stamp,
    actor_of,
    observed,
    tick,
)
from thalweg.sync.protocol.vectors import dominates
from thalweg.sync.replica.errors import FencedError as FencedError
from thalweg.sync.replica.errors import NotJoinedError as NotJoinedError
from thalweg.sync.replica.errors import RecordTooLargeError as RecordTooLargeError
from thalweg.sync.replica.errors import ReplicaError as ReplicaError
from thalweg.sync.replica.new_life import first_to_move, still_ahead
from thalweg.sync.replica.state import ReplicaState as ReplicaState
from thalweg.sync.replica.state import ReplicaStore as ReplicaStore


class Replica:
    """One region's copy."""

    def __init__(self, region: str, store: ReplicaStore, *, token: int = 0) -> None:
        """Open a store.

        Args:
            region: whose replica it is.
            store: what is durable.
            token: names this opening of the store, as no other; 0 makes copies of it hard to recognise.

        Raises:
            ReplicaError: the store is another region's.
        """
        self.store = store
        self._token = token
        self.moved: list[tuple[Update, Update | None]] = []
        """Writes that went into a new life since somebody last took them from here: as they were, as they are."""
        self.state = store.load_state() or ReplicaState(region=region)
        if self.state.region != region:
            raise ReplicaError(
                f"the store belongs to region {self.state.region!r}, not to {region!r}; open another file"
            )
        # Whether what was sent before a restart arrived is not known: the centre says, or it is sent again.
        self._sent = self.state.confirmed
        self._wanted: list[Range] = []
        self.centre_offset_ms: int | None = None  # the centre's clock minus ours, when it last spoke
        self.digest_position = 0
        self.digest_agrees: bool | None = None
        self.differing: tuple[int, ...] = ()
        self._repaired: dict[int, dict[str, Record]] = {}  # by bucket asked for: what was published since
        self._opened_at, self._opened_in = self.state.position, self.state.topic
        self._heard: RegionEntry | None = None  # newest word of the centre about this life
        self._listed: set[str] = set()  # keys that were published since everything is read again
        if self.state.reading_again:
            self.state = msgspec.structs.replace(self.state, position=0)  # what was listed before is not known

    @property
    def fenced(self) -> bool:
        """Say whether a newer life of the region exists, so that this store is obsolete."""
        return self.state.current_epoch > self.state.epoch

    @property
    def _actor(self) -> Actor:
        return actor_of(self.state.region, self.state.epoch)

    @property
    def must_join(self) -> bool:
        """Say whether the centre does not know this life: a join is sent instead of writes."""
        return not self.state.joined or not self.state.announced

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
        seq, before = state.seq + 1, self.store.get(checked_key(key))
        last = state.clock if before is None else observed(state.clock, before.at)
        at = tick(last, now_ms - state.ahead_ms, state.region)
        record = changed_record(key, before, changes, self._actor, seq, at)
        stamp = Stamp(
            ms=at.ms, counter=at.counter, region=at.region, epoch=state.epoch, seq=seq, version=record.version
        )
        openings = self._openings()
        opening = openings[-1] if self._token else None
        update = Update(record, stamp, changed_fields(changes), is_delete(changes), opening)
        size = len(canonical(update))
        if size > MAX_RECORD_BYTES:
            raise RecordTooLargeError(key, size)
        with self._durably():
            self.store.keep_base(key, before, seq)
            self.store.put(record)
            self.store.add_unconfirmed(update, tuple(changes))
            self._save(seq=seq, clock=at, openings=openings)
        return update

    def together(self) -> AbstractContextManager[None]:
        """Make the writes inside durable as one; if the block raises, none of them was made."""
        return self._durably()

    def _openings(self) -> tuple[Opening, ...]:
        """Return the openings of the file with the present one, in which a write is made now."""
        known = self.state.openings
        if not self._token or (known and known[-1].token == self._token):
            return known
        return (*known, Opening(self.state.seq, self._token))[-KEPT:]

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
        state = self.state
        return Join(region=state.region, epoch=epoch, at_ms=now_ms, position=state.built_on, topic=state.topic)

    def may_join(self, end: int | None) -> bool:
        """Say whether a life has begun, or the topic was read to this end of it, so that one may begin."""
        return self.state.epoch != 0 or (end is not None and self.state.position >= end)

    def leave(self) -> Leave:
        """Return the farewell; only useful once nothing is unconfirmed."""
        return Leave(region=self.state.region, epoch=self.state.epoch, last_seq=self.state.seq)

    def outgoing(self, limit: int = 500) -> list[Update]:
        """Return updates to send now: first those asked for again, then new ones."""
        if self.must_join:
            return []  # nobody would take them yet
        updates: list[Update] = []
        for first, last in self._wanted:
            few = min(last - first + 1, limit - len(updates))  # the centre asks for the rest when these have come
            updates += [u for u in self.store.unconfirmed(first - 1, few) if u.stamp.seq <= last]
        self._wanted = []
        new = self.store.unconfirmed(self._sent, limit)
        if new:
            self._sent = new[-1].stamp.seq
        last = self.state.moving_from
        return [update for update in (*updates, *new) if not 0 < last <= update.stamp.seq]

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
            openings=self._openings(),
            topic=state.topic,
            opened_at=self._opened_at,
            opened_in=self._opened_in,
        )

    def repair_request(self) -> RepairRequest | None:
        """Return a request for the buckets found different, once."""
        if not self.differing:
            return None
        buckets, self.differing = self.differing, ()
        self._repaired = {bucket: {} for bucket in buckets}
        return RepairRequest(region=self.state.region, epoch=self.state.epoch, buckets=buckets)

    # ---- applying ------------------------------------------------------------------------------------------------

    def restore(self, records: Iterable[Record], position: int, clock: Hlc) -> None:
        """Load a snapshot; own unconfirmed writes stay."""
        with self._durably():
            for record in records:
                self._merge(record)
            self._save(position=max(self.state.position, position), clock=observed(self.state.clock, clock))

    def read_topic(self, topic: str) -> None:
        """Hear the id of the replica topic; one made anew is read from its beginning."""
        known = self.state.topic
        if topic != known:
            with self._durably():
                self._save(topic=topic, position=0 if known else self.state.position)

    def read_again(self) -> None:
        """Read the replica topic from its beginning: it was made anew, or cut off, while it was read."""
        with self._durably():
            self._save(position=0)

    def apply(self, entries: Iterable[Entry], position: int, now_ms: int) -> None:
        """Apply what the centre published, in its order; afterwards everything before `position` is applied."""
        with self._durably():
            clock = self.state.clock
            for entry in entries:
                match entry:
                    case RecordEntry():
                        clock = observed(clock, self._merge(entry.record).at)
                        if self._repaired and (bucket := bucket_of(entry.record.key)) in self._repaired:
                            self._repaired[bucket][entry.record.key] = entry.record
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
        key = record.key
        # What a copy holds of a record may be a life of it that ended long ago: the first that is read replaces it.
        anew = self.state.reading_again and key not in self._listed
        if self.state.reading_again:
            self._listed.add(key)
        based = self.store.based(key)
        if based:
            self.store.put_base(key, record if anew else merge(self.store.base(key), record))
        known = None if anew and not based else self.store.get(key)
        merged = merge(known, record)
        if merged is not known:
            self.store.put(merged)
        return merged

    def _forget(self, entry: ForgetEntry) -> None:
        self._listed.discard(entry.key)
        self._drop(entry.key, entry.vector)

    def _drop(self, key: str, forgotten: Mapping[str, int]) -> None:
        """Drop a record whose writes are all among the forgotten ones; so with what lies under unconfirmed writes."""
        known = self.store.get(key)
        if known is not None and dominates(forgotten, known.vector):
            self.store.drop(key)
        elif self.store.based(key):
            base = self.store.base(key)
            if base is not None and dominates(forgotten, base.vector):
                self.store.put_base(key, None)

    def _hear(self, entry: RegionEntry, clock: Hlc, now_ms: int) -> Hlc:
        """Take what the centre says about this region."""
        self.centre_offset_ms = entry.centre_ms - now_ms
        state = self.state
        if entry.epoch != state.epoch or not entry.member:
            closed = entry.epoch > state.epoch or (entry.epoch == state.epoch and not entry.member)
            if closed:
                self._save(current_epoch=max(state.current_epoch, entry.epoch + (entry.epoch == state.epoch)))
            elif state.joined and state.announced:
                self._save(announced=False, built_on=0)  # the centre has lost this life: it is told once more
            return clock
        first, copied = first_to_move(state, self._openings(), entry)
        through = entry.contiguous if not first else min(entry.contiguous, first - 1)
        if through > state.confirmed:
            self._confirm(through)
        self._save(
            joined=True,
            announced=True,
            built_on=None,
            confirmed=max(state.confirmed, through),
            moving_from=first,
            copied=copied,
            ahead_ms=still_ahead(state.ahead_ms, now_ms - entry.centre_ms),
        )
        self._heard = entry
        self._sent = max(self._sent, self.state.confirmed)
        self._wanted = list(entry.missing)
        return clock if entry.clock is None else observed(clock, entry.clock)

    def _confirm(self, through: int) -> None:
        """Stop keeping writes that the centre has; what lies under later ones of the same records contains them."""
        for update in self.store.confirmed_below_others(through):
            key = update.record.key
            self.store.put_base(key, merge(self.store.base(key), update.record))
        self.store.confirm(through)

    # ---- a new life of the same store ------------------------------------------------------------------------------

    def settle(self, end: int | None, now_ms: int) -> bool:
        """Begin a new life if this one cannot go on, once that is possible; to be called after `apply`.

        It cannot go on where the centre has writes under its name that this store did not make (it was put back from
        a copy, or another copy of it writes), or takes no more of its stamps (the clock was too far ahead). What the
        centre has not taken is written anew in the new life, on top of what the centre has. A copy reads everything
        again before, because what it holds may have been forgotten everywhere else.

        Args:
            end: of the replica topic; None where it is not known.
            now_ms: the wall clock.

        Returns:
            Whether the topic is to be read from its beginning now.
        """
        state = self.state
        if not state.moving_from or self.fenced or self._heard is None or state.confirmed < state.moving_from - 1:
            return False
        if state.copied and not state.reading_again:
            self._listed = set()
            with self._durably():
                self._save(reading_again=True, position=0)
            return True
        if not state.reading_again or (end is not None and state.position >= end):
            self._begin_anew(self._heard, now_ms)
        return False

    def _begin_anew(self, heard: RegionEntry, now_ms: int) -> None:
        state = self.state
        kept = self.store.unconfirmed(state.confirmed, state.seq - state.confirmed)
        writes = [(update, self.store.changes_of(update.stamp.seq)) for update in kept]
        if any(changes is None for _, changes in writes):
            with self._durably():  # kept by an older version, which did not say what they changed
                self._save(current_epoch=state.epoch + 1)
            return
        too_far = bool(heard.refused_from) and not heard.copied
        ahead_ms = now_ms - heard.centre_ms if too_far and now_ms - heard.centre_ms > DEFAULT_LIMITS.park_ms else 0
        with self._durably():
            if state.reading_again:
                self._drop_unlisted()
            for key in {update.record.key for update in kept}:
                base = self.store.base(key)
                self.store.drop(key)
                if base is not None:
                    self.store.put(base)
            self.store.confirm(state.seq)
            self._save(
                epoch=max(heard.centre_ms, state.epoch + 1, state.current_epoch + 1, FIRST_STORE_EPOCH),
                seq=0,
                confirmed=0,
                openings=(),
                moving_from=0,
                copied=False,
                reading_again=False,
                announced=False,
                built_on=state.position,
                clock=(heard.clock or ZERO)._replace(region=state.region) if too_far else state.clock,
                ahead_ms=ahead_ms,
            )
            again = [(update, self._write_again(update, changes or (), now_ms)) for update, changes in writes]
        self._sent, self._wanted, self._heard = 0, [], None
        self.moved += again

    def _write_again(self, update: Update, changes: tuple[Change, ...], now_ms: int) -> Update | None:
        try:
            return self.write(update.record.key, changes, now_ms)
        except (ChangeRefusedError, RecordTooLargeError):
            return None  # on top of what others have written since it is impossible; whoever reads `moved` is told

    def _drop_unlisted(self) -> None:
        """Drop what was not published any more: it has been forgotten since this store's copy was made."""
        for key in sorted(set(self.store.keys()) - self._listed):
            if self.store.based(key):
                self.store.put_base(key, None)
            else:
                self.store.drop(key)

    # ---- comparing -------------------------------------------------------------------------------------------------

    def _compare(self, entry: DigestEntry, position: int) -> None:
        """Compare with the centre at exactly this place of its order; own unconfirmed writes may differ."""
        if self.state.reading_again:
            return  # what was applied lies behind what is read
        try:
            differing = differing_buckets(self.store.bucket_digests(), entry.buckets)
        except ValueError:  # of another number of buckets, so of another version: there is nothing to compare
            self.digest_agrees, self.differing = None, ()
            return
        if differing:
            own = self.store.unconfirmed(self.state.confirmed, self.state.seq - self.state.confirmed)
            busy = {bucket_of(update.record.key) for update in own}
            differing = [bucket for bucket in differing if bucket not in busy]
        self.differing = tuple(differing)
        self.digest_agrees = not self.differing
        self.digest_position = position

    def _clear(self, entry: BucketEntry) -> None:
        """Take over a bucket as the centre has it, but for what the centre has not merged.

        What it does not list was forgotten. What it lists may have been forgotten and begun anew without our having
        read of it (a topic made anew tells only how things are): then its own state replaces ours.
        """
        repaired = self._repaired.pop(entry.bucket, {})
        if not 0 <= entry.bucket < BUCKETS:
            return
        listed = set(entry.keys)
        for key in self.store.keys_in(entry.bucket):
            if key not in listed:
                self._drop(key, entry.merged)
            elif key in repaired:
                known = self.store.get(key)
                if known is not None and known != repaired[key] and dominates(entry.merged, known.vector):
                    self.store.put(repaired[key])

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
