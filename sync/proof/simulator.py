"""The simulator: one history against the very code that runs live, and whether what came out is right.

Virtual time, a network that delays, loses, repeats, reorders and cuts, clocks up to an hour wrong and once in a while
by days, crashes that lose the memory (and sometimes the disk), stores put back from a copy, writes together that fail,
regions that join late and leave, a centre put back to an earlier moment. The centre's log stands for the replica
topic, which may be made anew: readers fetch it from their position. A history is deterministic: its seed replays it
alone, in milliseconds.
"""

import random
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from thalweg.sync.centre.centre import Centre, MergeOutcome
from thalweg.sync.centre.key_merge import Recent
from thalweg.sync.centre.known_regions import KnownRegionImage
from thalweg.sync.proof import oracle
from thalweg.sync.proof.histories import CENTRE, HORIZON_MS, HOUR_MS, REGIONS, History, HistoryStep
from thalweg.sync.proof.oracle import KnownWrite
from thalweg.sync.protocol.changes import Change
from thalweg.sync.protocol.conflicts import Conflict
from thalweg.sync.protocol.digests import digests_of
from thalweg.sync.protocol.entries import Entry, ForgetEntry, PlainWrite, RecordEntry, Update, UpMessage
from thalweg.sync.protocol.gaps import Gap, GapStatus
from thalweg.sync.protocol.records import Record, view
from thalweg.sync.protocol.stamps import ZERO
from thalweg.sync.replica.memory_store import MemoryStore
from thalweg.sync.replica.replica import FencedError, NotJoinedError, Replica

START_MS = 1_700_000_000_000
BATCH_MS = 20  # between an arrival and the micro-batch that takes it
# Past both skews of an hour, in opposite directions, and the limit for stamps ahead of time.
SETTLE_MS = 2 * 3_600_000 + 120_000
SETTLE_ROUNDS = 24
MAX_PARKED = 2  # small, so that histories meet the limit


class Failure(NamedTuple):
    """What a history got wrong."""

    check: str
    detail: str


class HistoryTally(NamedTuple):
    """How much happened, so that a campaign can show that its histories were not idle."""

    histories: int = 0
    writes: int = 0
    conflicts: int = 0
    messages_lost: int = 0
    messages_repeated: int = 0
    gaps: int = 0
    parked: int = 0
    refused: int = 0
    forgotten: int = 0
    repairs: int = 0
    centre_restarts: int = 0
    stores_destroyed: int = 0
    stores_put_back: int = 0
    writes_moved: int = 0
    writes_taken_back: int = 0
    clocks_days_off: int = 0
    topics_made_anew: int = 0
    centres_put_back: int = 0

    def __add__(self, other: object) -> "HistoryTally":
        """Add up, item by item."""
        if not isinstance(other, HistoryTally):
            return NotImplemented
        return HistoryTally(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def counts(self) -> dict[str, int]:
        """Return the items by name."""
        return self._asdict()


class RunStopped(Exception):  # noqa: N818 - it ends a run, it is no error of ours
    """A check failed in the middle of a run."""

    def __init__(self, check: str, detail: str) -> None:
        super().__init__(detail)
        self.failure = Failure(check, detail)


class Disk:
    """What the centre has made durable: Delta tables and the replica topic."""

    __slots__ = (
        "arrived",
        "conflicts",
        "forgotten_through",
        "gaps",
        "log",
        "masks",
        "recents",
        "records",
        "regions",
        "seen",
        "topic",
    )

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.recents: dict[str, Recent] = {}
        self.regions: dict[str, KnownRegionImage] = {}
        self.conflicts: dict[str, Conflict] = {}
        self.gaps: dict[tuple[str, int, int], Gap] = {}
        self.log: list[Entry | None] = []  # None: compacted away
        self.masks: list[int] = []  # the oracle's: which writes of its key each log entry contains
        self.seen: dict[str, int] = {}  # the oracle's: which writes of each key the records contain
        self.arrived: set[int] = set()  # the oracle's: numbers of the writes that the centre merged
        self.forgotten_through = ZERO
        self.topic = 1  # which replica topic the log is

    def tables(self) -> "Disk":
        """Return a copy of the tables, without the topic."""
        other = Disk()
        for name in ("records", "recents", "regions", "conflicts", "gaps", "seen", "arrived"):
            setattr(other, name, getattr(self, name).copy())
        other.forgotten_through = self.forgotten_through
        return other

    def put_back(self, tables: "Disk") -> None:
        """Let the tables be what they were; the topic stays."""
        log, masks, topic = self.log, self.masks, self.topic
        for name in Disk.__slots__:
            setattr(self, name, getattr(tables, name))
        self.log, self.masks, self.topic = log, masks, topic


class Boom(Exception):  # noqa: N818 - an application's own mistake, in the middle of writes together
    """Leaves a block of writes."""


class Site:
    """One region: its store, the replica over it, and what the simulator knows about both."""

    __slots__ = (
        "backup",
        "cut",
        "doubtful",
        "end",
        "gone",
        "last_at",
        "listed",
        "offset_ms",
        "own",
        "replica",
        "seen",
        "store",
    )

    def __init__(self, region: str, offset_ms: int, token: int, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.replica = Replica(region, self.store, token=token)
        self.offset_ms = offset_ms
        self.seen: dict[str, int] = {}
        self.listed: dict[str, int] = {}  # what was seen since everything is read again
        self.backup: tuple[MemoryStore, dict[str, int], list[KnownWrite]] | None = None
        self.doubtful = False  # put back from a copy, and not in a new life yet
        self.own: list[KnownWrite] = []  # written here and not merged by the centre yet
        self.last_at = ZERO
        self.end: int | None = None  # of the log, as an answer has shown it
        self.cut = False
        self.gone = False


class Simulation:
    """A running history."""

    def __init__(self, plan: History) -> None:
        self.plan = plan
        self.chance = random.Random(plan.seed ^ 0x5EED).random
        self.disk = Disk()
        self.centre = Centre(max_parked=MAX_PARKED, topic="1")
        self._token = 0
        self.sites = [Site(region, plan.skews_ms[index], self._new_token()) for index, region in enumerate(REGIONS)]
        self.inbox: list[UpMessage] = []
        self.writes: list[KnownWrite] = []
        self.numbers: dict[tuple[str, int, int], KnownWrite] = {}  # by dot and opening of the store
        self.dots: set[tuple[str, int]] = set()
        self.void: set[int] = set()  # numbers of the writes that were made again in a new life
        self.may_be_lost: set[int] = set()  # made after a copy that the store was put back to
        self.copied: set[str] = set()  # regions whose store was put back: two copies may give one name to two writes
        self.forgotten_seen: dict[str, int] = {}
        self.taken: list[UpMessage] = []  # all that the centre has taken: the regions' topics
        self.kept: tuple[Disk, int] | None = None  # of the tables, and how much was taken then
        self.orphans: set[str] = set()  # actors whose store was destroyed
        self.ever_forgotten: set[str] = set()
        self.crash_at: int | None = None  # stage at which the centre's next batch dies
        self.batch_due = False
        self.now_ms = 0
        self.queue: list[tuple[int, int, Any]] = []
        self.echoes: list[UpMessage] = []  # sent messages that will arrive once more, long after
        self._order = 0
        self.lost = self.repeated = self.parked = self.refused = self.forgotten = self.repairs = self.restarts = 0
        self.put_back = self.taken_back = self.far = self.topics = self.centres = 0

    # ---- running -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run the history to its quiet end, then check everything."""
        self._begin()
        self.queue = [(step.at_ms, index, step) for index, step in enumerate(self.plan.steps)]
        heapify(self.queue)
        self._order = len(self.queue)
        while self.queue:
            self.now_ms, _, event = heappop(self.queue)
            if type(event) is HistoryStep:
                self._step(event)
            else:
                event[0](*event[1:])
        self._settle()
        self._check()

    def _begin(self) -> None:
        """Let the regions that are there from the beginning join."""
        for index, site in enumerate(self.sites):
            if index not in self.plan.late:
                self.inbox.append(site.replica.join(self._wall(site)))
        self._batch()
        for index, site in enumerate(self.sites):
            if index not in self.plan.late:
                self._deliver_log(site, 1, 0, self.disk.log[:], self.disk.masks[:])

    def _new_token(self) -> int:
        self._token += 1
        return self._token

    def _later(self, delay_ms: int, *event: Any) -> None:
        self._order += 1
        heappush(self.queue, (self.now_ms + delay_ms, self._order, event))

    def _wall(self, site: Site) -> int:
        return START_MS + self.now_ms + site.offset_ms

    def _centre_wall(self) -> int:
        return START_MS + self.now_ms + self.plan.skews_ms[CENTRE]

    def _step(self, step: HistoryStep) -> None:
        if step.region == CENTRE:
            if step.kind == "crash":
                self.crash_at = step.amount
            elif step.kind == "compact":
                self._compact()
            elif step.kind == "anew":
                self._make_topic_anew()
            elif step.kind == "keep":
                self.kept = (self.disk.tables(), len(self.taken))
            elif step.kind == "lose":
                self._put_centre_back()
            else:
                self._publish([self.centre.digest_entry()])
            return
        site = self.sites[step.region]
        match step.kind:
            case "write":
                assert step.change is not None
                self._write(site, step.key, step.change)
            case "sync":
                self._sync(site)
            case "cut":
                site.cut = True
            case "heal":
                site.cut = False
            case "crash":
                site.replica = Replica(site.replica.state.region, site.store, token=self._new_token())
            case "wipe":
                self._wipe(site)
            case "leave":
                self._leave(site)
            case "jump":
                site.offset_ms = max(-HOUR_MS, min(HOUR_MS, site.offset_ms + step.amount))
            case "far":
                if site.replica.state.joined:  # before that it is told to set its clock
                    self.far += 1
                    site.offset_ms += step.amount
            case "right":
                site.offset_ms = 0
            case "together":
                assert step.change is not None
                self._write_in_vain(site, step.key, step.change)
            case "backup":
                site.backup = (site.store.copy(), dict(site.seen), list(site.own))
            case "restore":
                self._restore(site)
            case "rot":
                self._rot(site)
            case _:
                raise ValueError(f"step {step.kind!r} is unknown")

    # ---- what happens --------------------------------------------------------------------------------------------

    def _write(self, site: Site, key: str, change: Change) -> None:
        if site.gone:
            return
        read = site.replica.read(key)
        try:
            update = site.replica.write(key, (change,), self._wall(site))
        except (NotJoinedError, FencedError):
            return
        if not site.doubtful:
            self._check_reading(site, key, site.seen.get(key, 0), read)
        self._note_write(site, update, change)

    def _note_write(self, site: Site, update: Update, change: Change) -> None:
        stamp, key = update.stamp, update.record.key
        seen = site.seen.get(key, 0)
        at = stamp.hlc
        if at <= site.last_at:
            raise RunStopped("clock", f"{at} is not after {site.last_at} of the same region")
        bits, number = seen, 0
        while bits:
            if bits & 1 and self.writes[number].at >= at:
                raise RunStopped("clock", f"{at} is not after {self.writes[number].at}, which its writer had seen")
            bits >>= 1
            number += 1
        site.last_at = at
        dot = (stamp.actor, stamp.seq, _token_of(update))
        if dot in self.numbers or (stamp.region not in self.copied and dot[:2] in self.dots):
            raise RunStopped("sequence", f"{dot} was given to two writes")
        write = KnownWrite(len(self.writes), stamp.actor, stamp.seq, key, change, at, seen)
        self.writes.append(write)
        self.numbers[dot] = write
        self.dots.add(dot[:2])
        site.seen[key] = seen | 1 << write.number
        site.own.append(write)

    def _check_reading(self, site: Site, key: str, seen: int, read: dict[str, Any] | None) -> None:
        """Whenever a region writes, it must have read what the writes it has seen add up to: nothing comes back."""
        expected = oracle.expected_value([write for write in self.writes if seen >> write.number & 1])
        if read != expected:
            raise RunStopped("reading", f"{site.replica.state.region} read {read} of {key}, must be {expected}")

    def _sync(self, site: Site) -> None:
        """Send what there is to send; ask for what was published."""
        if site.gone:
            return
        replica = site.replica
        messages = self._said(site, 3)
        if self.chance() < self.plan.duplication:
            self.echoes += messages
        if messages:
            self._transmit(site, self._arrive, messages)
        self._transmit(site, self._fetch, site, replica.state.position)

    def _said(self, site: Site, limit: int) -> list[UpMessage]:
        """Return what a region says now."""
        replica = site.replica
        if replica.must_join:
            return [replica.join(self._wall(site))] if replica.may_join(site.end) else []
        messages: list[UpMessage] = [replica.heartbeat(self._wall(site)), *replica.outgoing(limit)]
        # What is told of what was sent comes last; who speaks comes first.
        messages.append(replica.heartbeat(self._wall(site)))
        request = replica.repair_request()
        if request is not None:
            self.repairs += 1
            messages.append(request)
        return messages

    def _transmit(self, site: Site, *event: Any) -> None:
        """Put a message on the wire: it may be lost, repeated and late. A cut loses it."""
        plan, chance = self.plan, self.chance
        if site.cut or chance() < plan.loss:
            self.lost += 1
            return
        self._later(1 + int(chance() * plan.delay_ms), *event)
        if chance() < plan.duplication:
            self.repeated += 1
            self._later(1 + int(chance() * 3 * plan.delay_ms), *event)

    def _arrive(self, messages: Sequence[UpMessage]) -> None:
        self.inbox += messages
        if not self.batch_due:
            self.batch_due = True
            self._later(BATCH_MS, self._batch)

    def _fetch(self, site: Site, position: int) -> None:
        """Answer a reader with the log from its position on."""
        disk = self.disk
        if site.replica.state.topic != str(disk.topic):
            position = 0
        if position < len(disk.log) or site.end is None:
            log, masks = disk.log[position:], disk.masks[position:]
            self._transmit(site, self._deliver_log, site, disk.topic, position, log, masks)

    def _deliver_log(
        self, site: Site, topic: int, start: int, entries: Sequence[Entry | None], masks: Sequence[int]
    ) -> None:
        if topic != self.disk.topic:
            return  # it is no more
        if site.replica.state.topic != str(topic):
            site.replica.read_topic(str(topic))
            site.end = None
        position = site.replica.state.position
        site.end = max(site.end or 0, start + len(entries))
        skip = position - start
        if skip < 0 or skip >= len(entries) or site.gone:
            return  # not what this reader waits for: repeated, overtaken, or for a store that is no more
        new = entries[skip:]
        seen = site.listed if site.replica.state.reading_again else site.seen
        for entry, mask in zip(new, masks[skip:], strict=True):
            if mask:
                key = entry.record.key  # type: ignore[union-attr]
                seen[key] = seen.get(key, 0) | mask
        site.replica.apply([e for e in new if e is not None], start + len(entries), self._wall(site))
        before = site.replica.state
        if site.replica.settle(site.end, self._wall(site)):
            site.listed = {}
        if site.replica.state.epoch != before.epoch:
            self._note_new_life(site, before.reading_again)
        site.own = [write for write in site.own if write.number not in self.disk.arrived]
        for write in site.own if not site.replica.state.reading_again else ():
            record = site.store.records.get(write.key)
            if record is None or record.vector.get(write.actor, 0) < write.seq:
                raise RunStopped("own", f"{write.actor} no longer reads its own write {write}")

    def _note_new_life(self, site: Site, read_again: bool) -> None:
        """Follow the writes that went into a new life of the store: they count as they are there, and only there."""
        replica = site.replica
        moved, replica.moved = replica.moved, []
        old = [self.numbers[(was.stamp.actor, was.stamp.seq, _token_of(was))] for was, _ in moved]
        if read_again:
            keys = site.seen.keys() | site.listed.keys()
            site.seen = {key: site.listed.get(key, 0) or self.forgotten_seen.get(key, 0) for key in keys}
            site.own, site.listed, site.doubtful = [], {}, False
        gone = 0
        for write in old:
            if write.number in self.disk.arrived:
                raise RunStopped("moved", f"{write} was merged, and was made again in a new life")
            gone |= 1 << write.number
            self.void.add(write.number)
        site.seen = {key: seen & ~gone for key, seen in site.seen.items()}
        site.own = [write for write in site.own if write.number not in self.void]
        site.last_at = ZERO
        for write, (_, now) in zip(old, moved, strict=True):
            if now is not None:
                self._note_write(site, now, write.change)

    def _batch(self) -> None:
        """Let the centre take its batch, make the outcome durable stage by stage, and perhaps crash between two."""
        self.batch_due = False
        batch = self.inbox
        stage, self.crash_at = self.crash_at, None
        out = self.centre.merge_batch(batch, self._centre_wall())
        for number, commit in enumerate((self._keep_log, self._keep_conflicts, self._keep_records, self._keep_regions)):
            if stage == number:
                self._restart_centre()
                self._arrive(())
                return
            commit(out)
        self.taken += batch
        self.inbox = []
        if stage is not None:
            self._restart_centre()

    def _keep_conflicts(self, out: MergeOutcome) -> None:
        found = set()
        for row in out.conflicts:
            if row.conflict_id in found:
                raise RunStopped("conflicts", f"the pair {row.left} {row.right} came twice in one batch")
            found.add(row.conflict_id)
            self.disk.conflicts.setdefault(row.conflict_id, row)
        for gap in out.gaps:
            self.disk.gaps[(gap.region, gap.epoch, gap.first_seq)] = gap

    def _keep_records(self, out: MergeOutcome) -> None:
        disk = self.disk
        disk.records.update(out.records)
        for key in out.recents:
            disk.recents[key] = self.centre.recents.get(key, ())

    def _note_merged(self, update: Update | PlainWrite, limit: int) -> None:
        if update.stamp.ms > limit:
            raise RunStopped("future", f"{update.stamp.hlc} was merged {update.stamp.ms - limit} ms too early")
        assert isinstance(update, Update)
        write = self.numbers[(update.stamp.actor, update.stamp.seq, _token_of(update))]
        if write.number in self.void:
            raise RunStopped("moved", f"{write} was made again in a new life, and was merged")
        seen = self.disk.seen
        seen[write.key] = seen.get(write.key, 0) | write.seen | 1 << write.number
        self.disk.arrived.add(write.number)

    def _keep_log(self, out: MergeOutcome) -> None:
        limit = self._centre_wall() + 60_000
        for update in out.merged:
            self._note_merged(update, limit)
        self._publish(out.entries)

    def _publish(self, entries: Sequence[Entry]) -> None:
        disk = self.disk
        for entry in entries:
            disk.log.append(entry)
            disk.masks.append(disk.seen.get(entry.record.key, 0) if type(entry) is RecordEntry else 0)
        self.centre.published(len(disk.log))

    def _keep_regions(self, out: MergeOutcome) -> None:
        disk = self.disk
        disk.regions.update(out.regions)
        self.parked += len(out.parked)
        self.refused += len(out.refused)
        self.forgotten += len(out.forgotten)
        self.ever_forgotten.update(out.forgotten)
        for key in out.forgotten:
            self.forgotten_seen[key] = disk.seen.get(key, 0)
            disk.records.pop(key, None)
            disk.recents.pop(key, None)
        disk.forgotten_through = self.centre.forgotten_through

    def _restart_centre(self) -> None:
        disk = self.disk
        self.restarts += 1
        self.centre = Centre(
            disk.records,
            {key: recent for key, recent in disk.recents.items() if recent},
            disk.regions.values(),
            [gap for gap in disk.gaps.values() if gap.status is GapStatus.OPEN],
            position=len(disk.log),
            forgotten_through=disk.forgotten_through,
            max_parked=MAX_PARKED,
            topic=str(disk.topic),
        )

    def _make_topic_anew(self) -> None:
        """Lose the replica topic: the centre begins a new one with all it has."""
        self.topics += 1
        disk = self.disk
        disk.log, disk.masks, disk.topic = [], [], disk.topic + 1
        self._restart_centre()
        self._publish(self.centre.everything(self._centre_wall()))

    def _put_centre_back(self) -> None:
        """Put the centre's tables back to what they were; what it has taken since is read again from the topics."""
        if self.kept is None:
            return
        self.centres += 1
        tables, taken = self.kept
        self.disk.put_back(tables.tables())
        self.inbox = self.taken[taken:] + self.inbox
        self.taken = self.taken[:taken]
        self._restart_centre()
        self._arrive(())

    def _restore(self, site: Site) -> None:
        """Put a region's store back from its copy: what was written since is gone with it."""
        if site.backup is None or site.gone:
            return
        self.put_back += 1
        store, seen, own = site.backup
        state, present = store.state, site.replica.state
        region = present.region
        for write in self.writes:
            if write.actor.rpartition("@")[0] == region and (
                state is None or write.actor != f"{region}@{state.epoch}" or write.seq > state.seq
            ):
                self.may_be_lost.add(write.number)
        back = Site(region, site.offset_ms, self._new_token(), store.copy())
        back.cut, back.seen, back.own = site.cut, dict(seen), list(own)
        back.doubtful, back.backup, back.end = True, site.backup, site.end
        self.copied.add(region)
        site.gone = True  # what is still on its way to the store that was, reaches nobody
        self.sites[REGIONS.index(region)] = back

    def _write_in_vain(self, site: Site, key: str, change: Change) -> None:
        """Write twice together, and let the application fail before the end: none of it was written."""
        store, before = site.store, site.store.copy()
        read = site.replica.read(key)
        try:
            with site.replica.together():
                site.replica.write(key, (change,), self._wall(site))
                site.replica.write("a", (change,), self._wall(site))
                raise Boom
        except (Boom, NotJoinedError, FencedError):
            for name in MemoryStore.__slots__:
                setattr(store, name, getattr(before, name))  # what a real store's transaction does
        self.taken_back += 1
        if site.replica.read(key) != read:
            raise RunStopped("together", f"{key} reads {site.replica.read(key)} after writes that failed, not {read}")

    def _wipe(self, site: Site) -> None:
        """Destroy the store: a new one begins, knowing nothing."""
        region, offset_ms, cut = site.replica.state.region, site.offset_ms, site.cut
        self.orphans.add(f"{region}@{site.replica.state.epoch}")
        fresh = Site(region, offset_ms, self._new_token())
        fresh.cut = cut
        fresh.gone, site.gone = site.gone, True
        self.sites[REGIONS.index(region)] = fresh
        self._sync(fresh)

    def _leave(self, site: Site) -> None:
        """Leave if nothing is unconfirmed; otherwise the region stays."""
        if site.replica.state.joined and site.replica.state.confirmed == site.replica.state.seq:
            self._arrive([site.replica.leave()])
            site.gone = True

    def _rot(self, site: Site) -> None:
        """Lose one confirmed record from the store, as a failing disk does."""
        for key in sorted(site.store.records.keys() - {write.key for write in site.own})[:1]:
            del site.store.records[key]

    def _compact(self) -> None:
        """Drop what compaction drops: older entries of a key, and of forgotten keys in the end the last one, too.

        The broker keeps the last one for a day; a region that has begun reading is through within that.
        """
        log = self.disk.log
        reading = any(not s.replica.state.joined and s.replica.state.position for s in self.sites)
        later: set[str] = set()
        for position in range(len(log) - 1, -1, -1):
            entry = log[position]
            if isinstance(entry, RecordEntry | ForgetEntry):
                key = entry.record.key if isinstance(entry, RecordEntry) else entry.key
                if key in later or (type(entry) is ForgetEntry and not reading):
                    log[position] = None
                    # Whoever skips the entry learns what it held from the later one.
                    self.disk.masks[position] = 0
                later.add(key)

    # ---- the quiet end -------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Repair the network, let the clocks run past every skew, and let everybody talk until nothing changes."""
        self.now_ms = max(self.now_ms, HORIZON_MS) + SETTLE_MS
        self.crash_at = None
        present = [site for site in self.sites if not site.gone]
        for site in present:
            site.cut = False
            if not site.replica.state.joined:
                site.offset_ms = max(-HOUR_MS, min(HOUR_MS, site.offset_ms))  # a day ahead it cannot join
        quiet, begun = 0, len(self.disk.log)
        for number in range(SETTLE_ROUNDS):
            # Late rounds are long: what was made again in a new life may be stamped as far ahead as any write.
            self.now_ms += 2_000 if number < SETTLE_ROUNDS // 2 else 1_800_000
            for site in present:
                self.inbox += self._said(site, 500)
            self._batch()
            if number >= 2:
                self._publish([self.centre.digest_entry()])
            for site in present:
                here = site.replica.state.topic == str(self.disk.topic)
                start = site.replica.state.position if here else 0
                self._deliver_log(site, self.disk.topic, start, self.disk.log[start:], self.disk.masks[start:])
            quiet = quiet + 1 if self._at_rest(present, begun) else 0
            if quiet == 1 and self.echoes:
                self.inbox, self.echoes, quiet = self.echoes, [], 0
            if quiet == 2:
                return

    def _at_rest(self, present: Sequence[Site], begun: int) -> bool:
        remembers = self.centre.recents or any(not record.live for record in self.centre.records.values())
        return not remembers and all(
            site.replica.fenced
            or (
                not site.replica.must_join
                and not site.replica.state.moving_from
                and site.replica.state.confirmed == site.replica.state.seq
                and site.replica.digest_agrees
                and site.replica.digest_position > begun
                and not site.replica.differing
            )
            for site in present
        )

    def tally(self) -> HistoryTally:
        """Return how much has happened."""
        return HistoryTally(
            histories=1,
            writes=len(self.writes),
            conflicts=len(self.disk.conflicts),
            messages_lost=self.lost,
            messages_repeated=self.repeated,
            gaps=len(self.disk.gaps),
            parked=self.parked,
            refused=self.refused,
            forgotten=self.forgotten,
            repairs=self.repairs,
            centre_restarts=self.restarts,
            stores_destroyed=len(self.orphans),
            stores_put_back=self.put_back,
            writes_moved=len(self.void),
            writes_taken_back=self.taken_back,
            clocks_days_off=self.far,
            topics_made_anew=self.topics,
            centres_put_back=self.centres,
        )

    # ---- what must be true ---------------------------------------------------------------------------------------

    def _check(self) -> None:
        for failure in self._failures():
            raise RunStopped(*failure)

    def _failures(self) -> Iterator[Failure]:
        excused = self.void | self.may_be_lost
        for site in self.sites:
            if site.replica.fenced and not site.gone:
                if not site.doubtful:
                    yield Failure("fenced", f"{site.replica.state.region} is fenced, but its store is no old copy")
                excused |= {write.number for write in site.own}  # it was told
        for write in self.writes:
            here = write.number in self.disk.arrived or write.number in excused
            if not here and write.actor not in self.orphans:
                yield Failure("lost", f"acknowledged write {write} never reached the centre")
        # Of a destroyed store, a later write may have arrived that contains an earlier one which has not.
        contained = self.disk.seen
        yield from self._wrong_copies()
        yield from self._wrong_values([w for w in self.writes if contained.get(w.key, 0) >> w.number & 1])
        yield from self._wrong_conflicts([w for w in self.writes if w.number in self.disk.arrived])
        yield from self._unbounded()

    def _wrong_copies(self) -> Iterator[Failure]:
        expected = digests_of(self.centre.records.values())
        if digests_of(self.disk.records.values()) != expected:
            yield Failure("digests", "the durable records differ from the centre's memory")
        for site in self.sites:
            if not (site.gone or site.replica.fenced) and digests_of(site.store.records.values()) != expected:
                yield Failure(
                    "digests",
                    f"{site.replica.state.region} has {site.store.records}, the centre {self.centre.records}",
                )

    def _wrong_values(self, counted: Sequence[KnownWrite]) -> Iterator[Failure]:
        for key in sorted({write.key for write in counted}):
            expected = oracle.expected_value([w for w in counted if w.key == key])
            seen = view(self.centre.records.get(key))
            if seen != expected:
                yield Failure("value", f"{key} reads {seen}, must be {expected}")

    def _wrong_conflicts(self, counted: Sequence[KnownWrite]) -> Iterator[Failure]:
        expected = oracle.concurrent_pairs(counted)
        found: list[tuple[int, int]] = []
        by_dot = {(write.actor, write.seq): write for write in counted}
        if len(by_dot) != len(counted):
            yield Failure("sequence", "two writes of one name were merged")
        for row in self.disk.conflicts.values():
            left = by_dot[(row.left.actor, row.left.seq)]
            right = by_dot[(row.right.actor, row.right.seq)]
            found.append((min(left.number, right.number), max(left.number, right.number)))
            yield from self._wrong_row(row, left, right)
        if len(found) != len(set(found)):
            yield Failure("conflicts", f"a pair has two rows: {sorted(found)}")
        if set(found) != expected:
            missing, extra = expected - set(found), set(found) - expected
            if not missing and self.centres and all(self.writes[n].key in self.ever_forgotten for n, _ in extra):
                return  # a centre put back to before it forgot a record tells of pairs that its regions had settled
            yield Failure("conflicts", f"missing {sorted(missing)}, too many {sorted(extra)}")

    def _wrong_row(self, row: Conflict, left: KnownWrite, right: KnownWrite) -> Iterator[Failure]:
        if not left.at < right.at or (row.left.at, row.right.at) != (left.at, right.at):
            yield Failure("row", f"{row} must name {left} as the older and {right} as the newer, which wins")
        if (row.policy, row.resolution) != oracle.expected_outcome(left, right):
            yield Failure("row", f"{row} must say {oracle.expected_outcome(left, right)}")
        for side, write in ((row.left, left), (row.right, right)):
            if not oracle.shows(side.value, write.change):
                yield Failure("row", f"{row} shows {side.value} of {write}")
            seen = oracle.sequences_seen(write, self.writes)
            # A record that was forgotten in between began anew, without the writes that ended with it.
            same = side.vector.items() <= seen.items() if row.key in self.ever_forgotten else side.vector == seen
            if not same:
                yield Failure("row", f"{row} has vector {side.vector}, must be {seen}")

    def _unbounded(self) -> Iterator[Failure]:
        centre = self.centre
        if any(site.replica.fenced and not site.gone for site in self.sites):
            return  # its region has no store that acknowledges, and holds forgetting back until it gets one
        if centre.recents or len(centre.parking):
            yield Failure("metadata", f"{len(centre.recents)} recent and {len(centre.parking)} parked writes are left")
        left = [key for key, record in centre.records.items() if not record.live]
        if left:
            yield Failure("metadata", f"tombstones of {left} are left although every region has them")
        lives = {write.actor for write in self.writes}
        for record in centre.records.values():
            if not record.vector.keys() <= lives or len(record.vector) > len(lives):
                yield Failure("metadata", f"vector {record.vector} names others than {sorted(lives)}")
        for life in centre.regions.values():
            if life.received.above or life.parked or (life.member and life.pending_acks):
                yield Failure("metadata", f"{life.region} still has holes, parked updates or acknowledgements waiting")
        if any(site.store.updates for site in self.sites if not (site.gone or site.replica.fenced)):
            yield Failure("metadata", "a region still keeps confirmed writes")
        if any(gap.status is GapStatus.OPEN for gap in self.disk.gaps.values()):
            yield Failure("gaps", f"open at the end: {[g for g in self.disk.gaps.values() if g.status == 'open']}")


def _token_of(update: Update) -> int:
    assert update.opening is not None
    return update.opening.token


def simulate(plan: History) -> tuple[Failure | None, HistoryTally]:
    """Run one history; return what it got wrong, or None, and how much happened."""
    world = Simulation(plan)
    failure = None
    try:
        world.run()
    except RunStopped as stopped:
        failure = stopped.failure
    except Exception as error:  # whatever the product raises in a simulated world is a finding, with its seed
        failure = Failure("raised", f"{type(error).__name__}: {error}")
    return failure, world.tally()


def run_history(plan: History) -> Failure | None:
    """Run one history; return what it got wrong, or None."""
    return simulate(plan)[0]
