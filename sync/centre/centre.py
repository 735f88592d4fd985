"""The centre: takes what regions send, merges it, finds the conflicts and the gaps, and says what to publish.

Pure: messages and the time in, an outcome out. The replicate job gives it micro-batches from Kafka and writes the
outcome to Delta and to the replica topic; the simulator gives it batches from a network that loses and reorders.

Written in this order, an outcome survives a crash at any point, because taking the same batch again gives the same:
the publication, conflicts (by id), records, and last the regions' state with the removals. Only when a region's state
is durable are its updates known as repetitions. Publishing comes first because regions wait for it and the tables' time
would be added to theirs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from thalweg.sync.centre.admission import current_life, newest_of, refusal
from thalweg.sync.centre.key_merge import Admitted, KeyOutcome, Recent, merge_key
from thalweg.sync.centre.known_regions import (
    RELEASED,
    KnownRegion,
    KnownRegionImage,
    heard_of,
    image,
    merged_of,
    region_from,
)
from thalweg.sync.centre.parking import Parking
from thalweg.sync.centre.tombstones import Unstable, stable_position
from thalweg.sync.protocol.conflicts import Conflict, without
from thalweg.sync.protocol.digests import bucket_of, digests_of, encode_digests
from thalweg.sync.protocol.entries import (
    BucketEntry,
    DigestEntry,
    Entry,
    ForgetEntry,
    Heartbeat,
    Join,
    Leave,
    PlainWrite,
    RecordEntry,
    RegionEntry,
    RepairRequest,
    Update,
    UpMessage,
)
from thalweg.sync.protocol.gaps import MAX_ASKED, Gap, GapLog
from thalweg.sync.protocol.openings import admits, taken_over
from thalweg.sync.protocol.records import Record
from thalweg.sync.protocol.stamps import (
    DEFAULT_LIMITS,
    ZERO,
    Actor,
    Admission,
    FutureLimits,
    Hlc,
    actor_of,
    admission,
    observed,
)

# Writes of a record that are kept for comparing while no region has a replica: nobody acknowledges then.
KEPT_ALONE = 64
# Openings of a store that are told to have been replaced; more than copies that run at one time.
REPLACED_TOLD = 8
# Earlier lives of a region that are kept, named or not: what is late of them is known as a repetition.
KEPT_CLOSED = 8
# A tombstone stays so long while no region has a replica: as long as the topic keeps what could bring the key back.
KEPT_ALONE_MS = 7 * 86_400_000
_LOOK_EVERY_MS = 10_000  # at the tombstones that grow old: there may be many

MergeKeys = Callable[[Mapping[str, Sequence[Admitted]]], Mapping[str, KeyOutcome]]


class ReplicaSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All records at one position of the replica topic, for a region that begins."""

    records: tuple[Record, ...]
    position: int
    clock: Hlc


class RefusedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was not obeyed, and why."""

    region: str
    reason: str
    message: UpMessage


class MergeOutcome(msgspec.Struct, kw_only=True):
    """What one batch leads to."""

    records: dict[str, Record] = {}  # changed or published again, tombstones included
    recents: dict[str, Recent] = {}  # of the changed keys
    forgotten: list[str] = []
    conflicts: list[Conflict] = []
    gaps: list[Gap] = []
    refused: list[RefusedMessage] = []
    parked: list[Update | PlainWrite] = []
    warned: list[Update | PlainWrite] = []  # accepted although ahead of time
    merged: list[Update | PlainWrite] = []
    repeated: int = 0  # arrived before
    entries: list[Entry] = []
    regions: dict[str, KnownRegionImage] = {}  # changed


class Centre:
    """The merged state in memory, and the rules by which it changes."""

    def __init__(
        self,
        records: Mapping[str, Record] | None = None,
        recents: Mapping[str, Recent] | None = None,
        regions: Iterable[KnownRegionImage] = (),
        open_gaps: Iterable[Gap] = (),
        *,
        position: int = 0,
        forgotten_through: Hlc = ZERO,
        limits: FutureLimits = DEFAULT_LIMITS,
        tombstone_age_ms: int = 0,
        ask_again_ms: int = 1_000,
        max_parked: int = 10_000,
        topic: str = "",
    ) -> None:
        """Start from what is durable, or from nothing.

        Args:
            records: By key; tombstones included.
            recents: Writes that are not yet stable.
            regions: What is known of each region.
            open_gaps: Rows of `sync_gaps` that are open.
            position: Where the next publication goes.
            forgotten_through: Newest delete that was forgotten.
            limits: For stamps ahead of time.
            tombstone_age_ms: A tombstone stays at least this long, stable or not.
            ask_again_ms: A missing range is asked for again after this long.
            max_parked: Updates of one region that may wait because their stamps are ahead of time.
            topic: Id of the replica topic that `position` lies in; "" does not tell one from another.
        """
        self.records: dict[str, Record] = dict(records or {})
        self.recents: dict[str, Recent] = dict(recents or {})
        self.regions: dict[str, KnownRegion] = {saved.region: region_from(saved) for saved in regions}
        self.gap_log = GapLog(open_gaps, ask_again_ms)
        self.position = position
        self.parking = Parking(limits, (u for known in self.regions.values() for u in known.parked.values()))
        self.max_parked = max_parked
        self.topic = topic
        self._state_topics: Mapping[str, str] = {}  # region -> id of the topic that it writes to
        self.tombstone_age_ms = tombstone_age_ms
        self.unstable = Unstable()
        self.forgotten_through = forgotten_through
        self._aging: list[str] = []  # stable tombstones that are not old enough
        self._looked_ms = 0  # at those that grow old while no region has a replica
        self._batch: tuple[UpMessage, ...] = ()  # the present one
        self._arriving: dict[str, int] | None = None  # newest sequences in it, once they are asked for
        self._heard = heard_of(self.regions.values())
        self.clock = ZERO
        for record in self.records.values():
            self.clock = observed(self.clock, record.at)
        self._await_everybody()

    def meet_topics(self, state_topics: Mapping[str, str]) -> None:
        """Hear the ids of the topics that regions write to, by region; before the first batch.

        In a topic made anew offsets begin at 0 again: what plain producers write there is not what was taken before.
        """
        self._state_topics = state_topics
        for region, topic in state_topics.items():
            if region in self.regions:
                self.regions[region].count_on(topic)

    def numbered(self, message: UpMessage) -> UpMessage:
        """Let a plain write's sequence count on from those of the topics that its own replaced."""
        if not isinstance(message, PlainWrite) or (known := self.regions.get(message.stamp.region)) is None:
            return message
        base = known.plain_base.get(message.stamp.actor, 0)
        if not base:
            return message
        stamp = msgspec.structs.replace(message.stamp, seq=base + message.stamp.seq)
        return msgspec.structs.replace(message, stamp=stamp)

    # ---- a batch -------------------------------------------------------------------------------------------------

    def merge_batch(
        self, messages: Iterable[UpMessage], now_ms: int, merge_keys: MergeKeys | None = None
    ) -> MergeOutcome:
        """Take a batch and return what it leads to. The state in memory has changed when this returns.

        Args:
            messages: In order of arrival within a region.
            now_ms: The centre's clock.
            merge_keys: Merges the admitted messages of each key; None does it here.
        """
        out = MergeOutcome()
        touched: set[str] = set()
        admitted: dict[str, list[Admitted]] = {}
        for kept in self.parking.due(now_ms):
            touched.add(self._release(kept, admitted))
        repairs: set[int] = set()
        self._batch, self._arriving = tuple(messages), None
        for message in self._batch:
            if isinstance(message, Update):
                touched.add(self._update(message, out, admitted, now_ms))
            elif isinstance(message, Heartbeat):
                touched.add(self._heartbeat(message, out, now_ms))
            elif isinstance(message, PlainWrite):
                touched.add(self._plain(message, out, admitted, now_ms))
            elif isinstance(message, RepairRequest):
                repairs.update(message.buckets)
            else:
                touched.add(self._membership(message, out, now_ms))
        self._merge(admitted, merge_keys or self.merge_here(now_ms), out)
        regions = sorted(touched & self.regions.keys())
        for region in regions:
            known = self.regions[region]
            known.settle_acks()
            out.gaps += self.gap_log.review(region, known.epoch, known.received, now_ms)
        self._forget_stable(out, now_ms)
        self._batch, self._arriving = (), None
        out.entries += [RecordEntry(record) for record in out.records.values()]
        if repairs:
            self._repair(repairs, out)
        for region in regions:
            out.regions[region] = image(self.regions[region])
            out.entries.append(self.region_entry(region, now_ms))
        return out

    def merge_here(self, now_ms: int) -> MergeKeys:
        """Return the function that merges in this process."""

        def merge_keys(admitted: Mapping[str, Sequence[Admitted]]) -> dict[str, KeyOutcome]:
            return {
                key: merge_key(self.records.get(key), self.recents.get(key, ()), items, self.forgotten_through, now_ms)
                for key, items in admitted.items()
            }

        return merge_keys

    def published(self, position: int) -> None:
        """Note that the outcome's entries are published; the last of them lies just before this position."""
        self.position = position
        self.unstable.published(position)

    def region_entry(self, region: str, now_ms: int) -> RegionEntry:
        """Say what the centre has of a region."""
        known = self.regions[region]
        return RegionEntry(
            region=region,
            epoch=known.epoch,
            contiguous=known.received.contiguous,
            centre_ms=now_ms,
            missing=tuple(known.received.missing()[:MAX_ASKED]),
            member=known.member,
            clock=self.clock,
            newest=max([known.received.contiguous, *known.received.above]),
            openings=known.openings,
            replaced=known.tokens[:-1][-REPLACED_TOLD:],
            refused_from=known.refused_from,
            copied=known.copied,
        )

    def everything(self, now_ms: int) -> list[Entry]:
        """Return all there is to publish to a replica topic that was made anew."""
        regions = [self.region_entry(region, now_ms) for region in sorted(self.regions)]
        return [*(RecordEntry(record) for record in self.records.values()), *regions]

    def snapshot(self) -> ReplicaSnapshot:
        """Return everything a beginning region needs; take it right after `published`."""
        return ReplicaSnapshot(records=tuple(self.records.values()), position=self.position, clock=self.clock)

    def digest_entry(self, buckets: Sequence[int] | None = None) -> DigestEntry:
        """Return the digests, from the caller's running ledger where it keeps one."""
        found = digests_of(self.records.values()) if buckets is None else buckets
        return DigestEntry(buckets=encode_digests(found))

    # ---- messages ------------------------------------------------------------------------------------------------

    def _update(self, update: Update, out: MergeOutcome, admitted: dict[str, list[Admitted]], now_ms: int) -> str:
        stamp = update.stamp
        actor = stamp.actor
        known = self.regions.get(stamp.region)
        reason = refusal(update, actor, known)
        if reason:
            out.refused.append(RefusedMessage(region=stamp.region, reason=reason, message=update))
            return stamp.region
        assert known is not None
        arrived = known.received if stamp.epoch == known.epoch else known.closed.get(actor)
        if arrived is None or (arrived is not known.received and stamp.seq not in arrived):
            reason = f"epoch {stamp.epoch} of {stamp.region} was closed by epoch {known.epoch}; its store is obsolete"
            out.refused.append(RefusedMessage(region=stamp.region, reason=reason, message=update))
            return stamp.region
        reason = self._copied(update, known) if arrived is known.received else None
        if reason is None and stamp.seq not in arrived:
            reason = self._unfounded(update, actor, known) or self._refused_for_good(update, known, now_ms)
        if reason:
            out.refused.append(RefusedMessage(region=stamp.region, reason=reason, message=update))
            return stamp.region
        if self._parked_full(stamp.ms, known, now_ms):
            return stamp.region  # it stays with its writer, which is asked for it again
        if not arrived.add(stamp.seq):
            out.repeated += 1
            return stamp.region
        if stamp.seq > self._heard.get(actor, 0):
            self._heard[actor] = stamp.seq
        if arrived is known.received and stamp.seq > known.last_seq:
            known.last_seq, known.last_at = stamp.seq, update.record.at  # which is the stamp's reading
        if self._admitted(update, known, out, now_ms):
            admitted.setdefault(update.record.key, []).append(Admitted(update, actor, stamp.seq))
        return stamp.region

    def _plain(self, write: PlainWrite, out: MergeOutcome, admitted: dict[str, list[Admitted]], now_ms: int) -> str:
        """Take a plain write, or keep it aside while its stamp is ahead of time."""
        stamp = write.stamp
        known = self.regions.get(stamp.region)
        if known is None:
            known = self.regions[stamp.region] = KnownRegion.without_store(stamp.region)
            known.count_on(self._state_topics.get(stamp.region, ""))
        if stamp.seq <= known.plain.get(stamp.actor, 0):
            out.repeated += 1
            return stamp.region
        known.plain[stamp.actor] = self._heard[stamp.actor] = stamp.seq
        if self._parked_full(stamp.ms, known, now_ms):
            reason = f"stamp is {stamp.ms - now_ms} ms ahead, and {len(known.parked)} such messages wait; send it later"
            out.refused.append(RefusedMessage(region=stamp.region, reason=reason, message=write))
            return stamp.region
        if self._admitted(write, known, out, now_ms):
            admitted.setdefault(write.key, []).append(Admitted(write, stamp.actor, stamp.seq))
        return stamp.region

    def _parked_full(self, stamp_ms: int, known: KnownRegion, now_ms: int) -> bool:
        """Say whether the message has to wait and no more of its region may: a wrong clock costs bounded room."""
        return (
            len(known.parked) >= self.max_parked and admission(stamp_ms, now_ms, self.parking.limits) is Admission.PARK
        )

    def _copied(self, update: Update, known: KnownRegion) -> str | None:
        """Return why the update is of another copy of the store than the one that has written to us, or None."""
        opening = update.opening
        if opening is None or admits(known.openings, opening, update.stamp.seq):
            return None
        return (
            f"sequence {update.stamp.seq} of {known.actor} was given to two writes: another copy of this store has "
            f"written since sequence {opening.began}; the store begins a new life and sends its writes again"
        )

    def _refused_for_good(self, update: Update, known: KnownRegion, now_ms: int) -> str | None:
        """Return why a store's stamp is too far ahead to be waited for, or follows what was refused for good, or None.

        It is final for the rest of its life, however late a repetition comes: the store states its writes anew.
        """
        stamp, first = update.stamp, known.refused_from
        if 0 < first <= stamp.seq:
            return f"nothing from sequence {first} of {known.actor} on is taken; the store sends it again in a new life"
        if admission(stamp.ms, now_ms, self.parking.limits) is not Admission.REFUSE:
            return None
        known.refused_from = stamp.seq
        return (
            f"stamp is {stamp.ms - now_ms} ms ahead; allowed are {self.parking.limits.refuse_ms} ms. The store begins "
            "a new life and sends it again"
        )

    def _unfounded(self, update: Update, own: Actor, known: KnownRegion) -> str | None:
        """Return why an update that is well made may not be obeyed, or None."""
        if not known.member and update.stamp.epoch == known.epoch:
            return f"the region has left; {current_life(known)}"
        for actor, seq in update.record.vector.items():
            # A replica knows of others' writes only what was published, so nobody can have seen more than arrived.
            if actor != own and not 0 < seq <= self._heard.get(actor, 0):
                if self._arriving is None:
                    self._arriving = newest_of(self._batch)
                newest = max(self._heard.get(actor, 0), self._arriving.get(actor, 0))
                if not 0 < seq <= newest:  # topics replayed after a loss: a batch holds the regions one by one
                    return (
                        f"the record's vector contains sequence {seq} of {actor[:200]}; the newest that has arrived is "
                        f"{newest}: a region cannot have seen another's writes before they are there"
                    )
        return None

    def _admitted(self, message: Update | PlainWrite, known: KnownRegion, out: MergeOutcome, now_ms: int) -> bool:
        """Say whether a message may be merged now; otherwise it is kept aside or refused."""
        stamp = message.stamp
        verdict = self.parking.judge(message, now_ms)
        if verdict is Admission.ACCEPT:
            return True
        if verdict is Admission.REFUSE:
            reason = f"stamp is {stamp.ms - now_ms} ms ahead; allowed are {self.parking.limits.refuse_ms} ms"
            out.refused.append(RefusedMessage(region=known.region, reason=reason, message=message))
        elif verdict is Admission.PARK:
            known.parked[(stamp.actor, stamp.seq)] = message
            out.parked.append(message)
        elif verdict is Admission.WARN:
            out.warned.append(message)
            return True
        return False

    def _release(self, message: Update | PlainWrite, admitted: dict[str, list[Admitted]]) -> str:
        """Let a message go that was kept aside."""
        stamp = message.stamp
        known = self.regions[stamp.region]
        known.parked.pop((stamp.actor, stamp.seq), None)
        item = Admitted(message, stamp.actor, stamp.seq)
        if isinstance(message, PlainWrite):
            # Its own lane: the partition's later writes have gone ahead, and a vector cannot say "all but this one".
            known.released += 1
            item = Admitted(message, actor_of(stamp.region, RELEASED), known.released)
            self._heard[item.actor] = known.released
        admitted.setdefault(item.key, []).append(item)
        return stamp.region

    def _merge(self, admitted: Mapping[str, Sequence[Admitted]], merge_keys: MergeKeys, out: MergeOutcome) -> None:
        for key, result in merge_keys(admitted).items():
            if result.refused:
                out.refused += [
                    RefusedMessage(region=message.stamp.region, reason=reason, message=message)
                    for message, reason in result.refused
                ]
            if result.record is None:
                continue
            self.records[key] = out.records[key] = result.record
            self.recents[key] = out.recents[key] = result.recent
            self.clock = observed(self.clock, result.record.at)
            self.unstable.add(key, result.dots)
            out.conflicts += result.conflicts
            out.merged += [item.message for item in admitted[key]]
            for message, _ in result.refused:
                out.merged.remove(message)

    def _heartbeat(self, heartbeat: Heartbeat, out: MergeOutcome, now_ms: int) -> str:
        known = self.regions.get(heartbeat.region)
        if known is None or heartbeat.epoch != known.epoch or not known.member:
            reason = f"heartbeat of epoch {heartbeat.epoch}; {current_life(known)}"
            out.refused.append(RefusedMessage(region=heartbeat.region, reason=reason, message=heartbeat))
            return heartbeat.region
        if heartbeat.openings:
            token = heartbeat.openings[-1].token
            openings = taken_over(known.openings, heartbeat.openings, known.received)
            if openings is None or token in known.tokens[:-1]:
                return heartbeat.region  # late, or of a copy that another has replaced, which the answer shows it
            known.openings = openings
            known.meet(heartbeat, self.topic)
        known.received.announce(heartbeat.sent_seq)
        if not known.copied:
            known.acknowledge(self._here(heartbeat.position, heartbeat.topic), heartbeat.last_seq)
        known.offset_ms = heartbeat.at_ms - now_ms
        known.heard_ms = now_ms
        known.heartbeat = heartbeat
        return heartbeat.region

    def _here(self, position: int, topic: str) -> int:
        """Return a region's position in the replica topic as it is now; 0 if the region speaks of an earlier one."""
        return 0 if topic and self.topic and topic != self.topic else min(position, self.position)

    def _membership(self, message: Join | Leave, out: MergeOutcome, now_ms: int) -> str:
        known = self.regions.get(message.region)
        if isinstance(message, Leave):
            if known is not None and known.epoch == message.epoch and known.received.contiguous >= message.last_seq:
                known.member = False
        elif message.epoch > now_ms + self.parking.limits.refuse_ms:
            # Obeyed, it would lock every later store of the region out.
            reason = f"epoch {message.epoch} is {message.epoch - now_ms} ms ahead of the centre's clock; set the clock"
            out.refused.append(RefusedMessage(region=message.region, reason=reason, message=message))
        elif known is None:
            self._welcome()
            known = self.regions[message.region] = KnownRegion(message.region, message.epoch)
            known.count_on(self._state_topics.get(message.region, ""))
            known.acked = self._joined_at(message)
        elif message.epoch > known.epoch:
            out.gaps += self.gap_log.give_up(message.region, message.epoch, now_ms)
            self._welcome()
            known.member = False
            if not known.holds_back:  # updates still parked were written before this life knew anything
                known.acked = self._joined_at(message)
            elif message.position is not None:
                known.acked = min(known.acked, self._joined_at(message))
            known.begin(message.epoch)
            self._drop_unnamed(known)
        return message.region

    def _drop_unnamed(self, known: KnownRegion) -> None:
        """Let the earlier lives of a region go that no record names any more, so that stores may come and go."""
        if len(known.closed) > KEPT_CLOSED:
            named: set[str] = set().union(*(record.vector for record in self.records.values()))
            parked = {actor for actor, _ in known.parked}
            for actor in list(known.closed)[:-KEPT_CLOSED]:
                if actor not in named and actor not in parked:
                    del known.closed[actor]
                    self._heard.pop(actor, None)

    def _joined_at(self, join: Join) -> int:
        """Return what a new life's writes contain: all there is now, unless it has written before it joined."""
        return self.position if join.position is None else self._here(join.position, join.topic)

    @property
    def _alone(self) -> bool:
        return not any(known.holds_back for known in self.regions.values())

    def _welcome(self) -> None:
        """From the first region on, what is kept waits for acknowledgements."""
        if self._alone:
            self._aging = []
            self._await_everybody()

    def _await_everybody(self) -> None:
        for key, record in self.records.items():
            if not record.live or key in self.recents:
                self.unstable.add(key, tuple((w.actor, w.seq) for w in self.recents.get(key, ())))

    def _repair(self, buckets: Iterable[int], out: MergeOutcome) -> None:
        keys_in: dict[int, list[str]] = {bucket: [] for bucket in sorted(buckets)}
        for key in sorted(self.records):
            keys = keys_in.get(bucket_of(key))
            if keys is not None:
                keys.append(key)
        merged = merged_of(self.regions.values())
        for bucket, keys in keys_in.items():
            out.entries += [RecordEntry(self.records[key]) for key in keys if key not in out.records]
            out.entries.append(BucketEntry(bucket=bucket, keys=tuple(keys), merged=merged))

    def _forget_stable(self, out: MergeOutcome, now_ms: int) -> None:
        if self._alone:
            for key, recent in out.recents.items():
                self.recents[key] = out.recents[key] = recent[-KEPT_ALONE:]
            self._forget_old(out, now_ms)
            return
        due, self._aging = self._aging, []
        settled = self.unstable.settled(stable_position(self.regions.values()))
        for key, dots in settled:
            left = without(self.recents.get(key, ()), dots)
            if left:
                self.recents[key] = left
            else:
                self.recents.pop(key, None)
                due.append(key)
        for key in due:
            record = self.records.get(key)
            if record is None or record.live or key in self.recents:
                continue
            if key in out.records or now_ms - record.deleted.ms < self.tombstone_age_ms:
                self._aging.append(key)
                continue
            self._forget(record, out)

    def _forget_old(self, out: MergeOutcome, now_ms: int) -> None:
        """Forget tombstones by their age: no region has a replica, so there is nobody who acknowledges."""
        self._aging += self.unstable.keys()
        self.unstable.clear()
        if now_ms - self._looked_ms < _LOOK_EVERY_MS:
            return
        self._looked_ms = now_ms
        due, self._aging = dict.fromkeys(self._aging), []
        for key in due:
            record = self.records.get(key)
            if record is None or record.live:
                continue
            if key in out.records or now_ms - record.deleted.ms < max(self.tombstone_age_ms, KEPT_ALONE_MS):
                self._aging.append(key)
                continue
            self.recents.pop(key, None)
            self._forget(record, out)

    def _forget(self, record: Record, out: MergeOutcome) -> None:
        del self.records[record.key]
        self.forgotten_through = max(self.forgotten_through, record.deleted)
        out.forgotten.append(record.key)
        out.entries.append(ForgetEntry(record.key, record.vector))
