"""The regional agent: assignments in, runs started and stopped, reports and telemetry out.

One agent may host several regions: they share a process, a reader, a publisher and one commit per step, which is what
makes eight simulated regions cheap. A step is: read what arrived; in one transaction judge it by the fence, change what
is held and put reports into the outbox; then act on the committed state; then publish. Wherever it is killed, the next
life of the agent finds the committed state and goes on from it.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Final

import msgspec

from thalweg.agent.assigned import AssignedTasks
from thalweg.agent.declarations import Declarations
from thalweg.agent.fleet import (
    ForeignMemory,
    NodeLoad,
    RegionFleet,
    host_load,
    link_samples,
    node_samples,
    price_samples,
)
from thalweg.agent.prepared_samples import PreparedSamples
from thalweg.agent.runners import Runner
from thalweg.agent.steady import without_steps_back
from thalweg.agent.store import AgentStore, HeldAssignment, inventory, status_record
from thalweg.agent.tenure import LEASE_MS, Said, SupersededError, Tenure
from thalweg.conf.settings import AgentSettings as AgentSettings
from thalweg.scheduling.ids import RegionId
from thalweg.streams.broker.consume import IncomingRecord, Reader
from thalweg.streams.broker.deadletter import RefusedRecord, dead_letter
from thalweg.streams.broker.errors import BrokerUnavailableError, NotAcknowledgedError, StoreFullError
from thalweg.streams.broker.publish import OutgoingRecord, Publisher, outgoing
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.envelope import Envelope, content_id
from thalweg.streams.contract.messages import AssignmentEvent, Sample, StatusEvent, TelemetryRecord
from thalweg.streams.contract.topics import ASSIGNMENTS, STATUS, TELEMETRY, region_of_topic, topic_name
from thalweg.sync.clock import Clock

log = logging.getLogger("thalweg.agent")

STEP_MS: Final = 20
"""Shortest round: without it a steady trickle of events would mean a commit and a request for each."""

OUTBOX_BATCH: Final = 4_000
"""Most reports published in one go: about 2 MB."""

SAMPLES_PER_RECORD: Final = 2_000
"""About 400 kB: well within a message's limit."""

FORGET_EVERY_MS: Final = 60_000
SAVED_EVERY_MS: Final = 60_000
"""Between two lines of the log that tell what was kept from leaving."""
NOTICE_EVERY_MS: Final = 5_000
"""A notice is said again while it stands: the place job passes over one that it knows, and over one of nodes that it
does not know yet."""
MOST_IN_NOTICE: Final = 10_000
"""Nodes that one message may name; no machine stands for so many but in a simulation."""
WRITE_AGAIN_MS: Final = 1_000
"""Between two tries to write to a disk that is full."""
TAKE_OVER_EVERY_MS: Final = 200
"""Between two looks at what others left running: some 20 ms of work."""
READ_FIRST_MS: Final = 30_000
"""Longest time for reading what was said in a region before; it takes a second where the broker answers."""
_EVENT: Final = msgspec.json.Decoder(AssignmentEvent)
_SAID: Final = msgspec.json.Decoder(Said)


class RegionalAgent:
    """See the module's words. One thread; time comes from its two clocks alone."""

    def __init__(
        self,
        fleets: Sequence[RegionFleet],
        *,
        settings: AgentSettings,
        prefix: str,
        agent_id: str,
        store: AgentStore,
        reader: Reader,
        publisher: Publisher,
        runner: Runner,
        clock: Clock,
        topic_ids: Mapping[str, str],
        installation: str = "",
        read_first: Mapping[tuple[str, int], int] | None = None,
        seed: int = 0,
        steady: Clock | None = None,
        declarations: Declarations | None = None,
        taken_away_by: Callable[[], int | None] = lambda: None,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Put an agent together.

        Args:
            fleets: the regions it hosts.
            settings: its intervals.
            prefix: of the topics.
            agent_id: names this start of it.
            store: its file.
            reader: of the regions' assignments and status topics.
            publisher: of reports and telemetry.
            runner: what runs tasks.
            clock: the wall clock, for what the agent says of when something happened.
            steady: a clock that never steps, for durations, from the wall clock's time on (thalweg.steady); None takes
                the wall clock without its steps back.
            topic_ids: of each topic of assignments: what was read of a topic of the same name is another's.
            installation: whose the regions are: cluster and prefix of the topics in a word.
            read_first: of partitions of status topics, the offset up to which they are read before anything is done.
            seed: of simulated link probes.
            declarations: how samples are prepared before they leave; None sends all.
            taken_away_by: when a cloud takes this machine, and with it all nodes of the regions, away, milliseconds
                since 1970; None as long as nothing is said of it (thalweg.agent.spot_notice).
            announce: told what keeps the agent from its work, or from doing it as its settings say, each time that
                changes; "" is nothing.
        """
        self._steady = steady or without_steps_back(clock)
        self.tasks = AssignedTasks(fleets, store, runner, self._steady)
        self._fleets = fleets
        self._settings = settings
        self._prefix = prefix
        self._agent_id = agent_id
        self._store = store
        self._reader = reader
        self._publisher = publisher
        self._runner = runner
        self._clock = clock
        self._topic_ids = topic_ids
        self._installation = installation
        self._declarations = declarations
        self._prepared = {fleet.region: PreparedSamples() for fleet in fleets}
        self._taken_away_by = taken_away_by
        self._announce = announce
        self._announced = ""
        self._rng = random.Random(seed)
        self._acknowledged = 0
        self._refused: list[OutgoingRecord] = []
        self._due: dict[str, int] = {}
        self._read_first = dict(read_first or {})
        self._read_until = self._steady() + READ_FIRST_MS
        self._tenures = {
            fleet.region: Tenure(
                fleet.region,
                own_ids=store.starts,
                newest=store.newest_report(fleet.region),
                same_file=store.same_file,
                steady=self._steady,
            )
            for fleet in fleets
        }
        self.tasks.may_start = lambda region: self._tenures[region].may_start()
        self._claims = True
        self._begun = False
        self._others_left = 0
        """Processes that others started, by the last look."""
        self._foreign = ForeignMemory()
        self._waiting: list[IncomingRecord] = []
        self._full: StoreFullError | None = None
        """Why the file could not be written the last time."""
        self._keys = {fleet.region: fleet.region.encode() for fleet in fleets}
        self._regions_of_status = {topic_name(STATUS, prefix, fleet.region): fleet.region for fleet in fleets}
        # Often enough that tasks may always be started, whatever the settings say.
        self._heartbeat_ms = min(settings.heartbeat_ms, LEASE_MS // 3)

    def resume(self) -> None:
        """Claim the regions; what an earlier life of this agent left is taken up when the claims were read back."""
        self._publish_heartbeats(self._clock())
        self._waiting += self._hear(self._reader.poll(0))
        self._begin_if_ready(self._clock())

    def step(self, poll_ms: int) -> int:
        """Do one round and return how many records were read.

        Args:
            poll_ms: how long to wait for the first record.

        Raises:
            SupersededError: another agent hosts one of the regions now; this one has stopped.
        """
        read = self._reader.poll(poll_ms)
        records = self._hear(read)
        now = self._clock()
        self._end_if_superseded()
        if not self._begun:
            self._waiting, records = [*self._waiting, *records], []
            if not self._begin_if_ready(now):
                self._publish_heartbeats(now)
                return len(read)
        self._waiting += records
        if self._may_write():
            try:
                starting = self._commit(now)
            except StoreFullError as error:
                self._disk_is_full(error)
            else:
                self._disk_takes_again()
                self.tasks.start(starting)
        self._publish(now)
        self._announce_trouble()
        return len(read)

    def _commit(self, now: int) -> list[HeldAssignment]:
        """Judge what arrived, note what has happened, and choose what is to be started; in one transaction."""
        refused, acknowledged = len(self._refused), self._acknowledged
        try:
            with self._store.changed_with_the_file(), self._store.fence.transaction():
                self._clear_outbox()
                for record in self._waiting:
                    self._take(record, now)
                starting = self.tasks.advance(now)
                if self._is_due("progress", self._settings.progress_ms):
                    self.tasks.report_progress(now)
                if self._is_due("forget", FORGET_EVERY_MS):
                    self._store.forget(now)
                self._store.save_clocks()
        except StoreFullError:
            del self._refused[refused:]
            self._acknowledged = acknowledged
            self.tasks.read_back()
            raise
        self._waiting = []
        return starting

    # A disk that takes nothing

    def _may_write(self) -> bool:
        return self._full is None or self._is_due("write again", WRITE_AGAIN_MS)

    def _disk_is_full(self, error: StoreFullError) -> None:
        """Say so once; what runs goes on, what arrives waits, and nothing new is asked for."""
        if self._full is None:
            log.error(
                "%s. What runs goes on and is heard of; its ends are told when there is space. Nothing new is taken: "
                "the nodes are told as draining",
                error,
            )
            self._due.pop("nodes", None)
            self._is_due("write again", WRITE_AGAIN_MS)
        self._full = error

    def _disk_takes_again(self) -> None:
        if self._full is not None:
            log.warning("%s can be written again: what waited is done", self._full.path)
            self._full = None
            self._due.pop("nodes", None)

    def _trouble(self) -> str:
        """Say what keeps the agent from its work, or from doing it as its settings say; "" where nothing does."""
        full = "" if self._full is None else f"{self._full}: nothing new is taken"
        lacking = "" if self._declarations is None else self._declarations.lacking
        return "; ".join(filter(None, (full, lacking)))

    def _announce_trouble(self) -> None:
        if (words := self._trouble()) != self._announced:
            self._announced = words
            self._announce(words)

    # Whose the regions are

    def _hear(self, records: Sequence[IncomingRecord]) -> list[IncomingRecord]:
        """Hear what was said on the regions' status topics, and return the other records."""
        assignments = []
        for record in records:
            region = self._regions_of_status.get(record.topic)
            if region is None:
                assignments.append(record)
                continue
            place = (record.topic, record.partition)
            if self._read_first.get(place, 0) <= record.offset + 1:
                self._read_first.pop(place, None)
            tenure = self._tenures[region]
            # Afterwards only who speaks for the region matters, not the many reports of tasks.
            if not tenure.claimed or record.key == self._keys[region]:
                try:
                    tenure.hear(decoded(_SAID, record.value))
                except UndecodableError:
                    continue  # somebody else's record; the place job puts it into the dead-letter topic
        return assignments

    def _begin_if_ready(self, now: int) -> bool:
        """Begin once it is known of every region whether this file goes on where the region stopped."""
        if self._steady() > self._read_until:
            self._read_first.clear()  # what is not there any more by now is not waited for
        if self._read_first or not all(tenure.has_begun() for tenure in self._tenures.values()):
            return False
        if not self._is_alone():
            return False
        astray = [region for region, tenure in self._tenures.items() if not tenure.goes_on()]
        ends: Mapping[tuple[str, int], int] = {}
        if astray:
            try:
                ends = self._reader.end_offsets()
            except BrokerUnavailableError:
                return False
        with self._store.fence.transaction():
            if astray:
                for (topic, partition), end in ends.items():
                    self._store.fence.pass_over(topic, partition, end, self._topic_ids.get(topic, ""))
                why = "the agent's file does not go on where the region stopped"
                log.warning(
                    "%s (it is new, was put back from a copy, or another agent was there): what it holds is given "
                    "back, and assignments are taken from now on; the place job finds what is missing",
                    why,
                    extra={"fields": {"regions": astray}},
                )
                self.tasks.give_up_stored(now, why)
            else:
                self.tasks.resume(now)
            self._store.settle()
            self._store.save_clocks()
        self._begun, self._claims = True, False  # read back, so written, whatever was heard of it
        return True

    def _is_alone(self) -> bool:
        """Whether nothing runs here any more that others started for these regions."""
        if not self._is_due("take over", TAKE_OVER_EVERY_MS):
            return False
        left = self._runner.take_over(self._installation, [fleet.region for fleet in self._fleets], self._steady())
        if left and not self._others_left:
            log.warning(
                "what an earlier life of this agent, or another agent of its regions, left running on this machine is "
                "ended before anything is started",
                extra={"fields": {"processes": left}},
            )
        self._others_left = left
        return not left

    def _end_if_superseded(self) -> None:
        for tenure in self._tenures.values():
            if tenure.superseded_by:
                self._stop(give_up_all=True)
                raise SupersededError(tenure.region, tenure.superseded_by)

    def _publish_heartbeats(self, now: int) -> None:
        """Publish heartbeats alone, the first of which are the claims."""
        if not self._is_due("heartbeat", self._heartbeat_ms):
            return
        if self._claims:
            self._note_start()
        try:
            self._publisher.publish([self._region_report(fleet.region, "heartbeat", now) for fleet in self._fleets])
            self._claims = False
        except NotAcknowledgedError as error:
            log.warning("the claim waits for the broker", extra={"fields": {"error": str(error)}})
            self._due.pop("heartbeat", None)
            if self._claims:  # it may have been written all the same, and is made only once under one id
                self._agent_id = content_id(self._agent_id, "claims again")[:12]
                self._note_start()  # the first claim may be read back, and then this name is the one that goes on

    def _note_start(self) -> None:
        if self._agent_id not in self._store.starts:
            with self._store.fence.transaction():
                self._store.note_start(self._agent_id)

    def run(self, stop: Callable[[], bool]) -> None:
        """Go round until asked to stop, then stop in order."""
        while not stop():
            started = time.monotonic()
            self.step(STEP_MS)
            time.sleep(max(0.0, STEP_MS / 1000 - (time.monotonic() - started)))
        self.stop()

    def stop(self) -> None:
        """Give up what would not survive, publish what is left to say, say goodbye, and end.

        The goodbye goes last and alone: once it is read, nothing new is assigned here, and what came before it stands.
        """
        self._stop(give_up_all=False)

    def _stop(self, *, give_up_all: bool) -> None:
        ended = self._runner.close(give_up_all=give_up_all)
        with self._store.fence.transaction():
            self._clear_outbox()
            for run in ended:
                # Whoever hosts the region now may have killed it: then it is given back like the others.
                if run.succeeded or not give_up_all:
                    self.tasks.note_end(run, self._clock())
            if give_up_all or not self._runner.survives_restart:
                self.tasks.evict_all(self._clock())
        if self._begun:
            self._publish(self._clock())
            self._publish_rest(self._clock())
            self._say_goodbye(self._clock())
        with self._store.fence.transaction():
            self._clear_outbox()
            self._store.save_clocks()
        self._store.close()

    def _publish_rest(self, now: int) -> None:
        """Publish the samples that wait for the end of a window."""
        records = [
            record
            for region, prepared in self._prepared.items()
            for record in self._telemetry_records(region, prepared.rest(), now)
        ]
        try:
            self._publisher.publish(records)
        except NotAcknowledgedError as error:
            log.warning("stopped with samples of an unfinished window", extra={"fields": {"error": str(error)}})

    def _say_goodbye(self, now: int) -> None:
        try:
            self._publisher.publish([self._region_report(fleet.region, "goodbye", now) for fleet in self._fleets])
        except NotAcknowledgedError as error:
            log.warning("stopped without a goodbye: silence will tell", extra={"fields": {"error": str(error)}})

    def _clear_outbox(self) -> None:
        if self._acknowledged:
            self._store.acknowledged(self._acknowledged)
            self._acknowledged = 0

    def _take(self, record: IncomingRecord, now: int) -> None:
        fence, topic_id = self._store.fence, self._topic_ids.get(record.topic, "")
        fence.move_on(record.topic, record.partition, record.offset + 1, topic_id)
        is_past = fence.is_passed_over(record.topic, record.partition, record.offset, topic_id)
        region = region_of_topic(record.topic, ASSIGNMENTS, self._prefix)
        try:
            event = decoded(_EVENT, record.value)
            if event.region != region:
                raise UndecodableError(f"region {event.region!r} on the topic of region {region!r}")
        except UndecodableError as error:
            if is_past:
                return  # refused by whoever was here before
            position = {"topic": record.topic, "offset": record.offset, "reason": str(error)}
            log.error("a record that is no assignment was refused", extra={"fields": position})
            self._refused.append(_dead_letter(record, str(error), self._prefix))
        else:
            if is_past:  # whoever was here before has acted on it, or the place job finds it missing
                fence.admit_as_over(event)
            else:
                self.tasks.obey(event, now)

    # What is published

    def _publish(self, now: int) -> None:
        # What is acknowledged and could not be struck off yet is not sent once more.
        told = self._acknowledged
        reports, last = ([], told) if told else self._store.outbox(self._prefix, OUTBOX_BATCH)
        records = [*self._refused, *reports, *self._telemetry(now)]
        if self._is_due("heartbeat", self._heartbeat_ms):
            records += (self._region_report(fleet.region, "heartbeat", now) for fleet in self._fleets)
        by_ms = self._taken_away_by()
        if by_ms is not None and self._is_due("notice", NOTICE_EVERY_MS):
            records += self._notices(by_ms, now)
        # An inventory speaks of everything reported before it, so it waits until all of that goes with it.
        if len(reports) < OUTBOX_BATCH and self._is_due("inventory", self._settings.inventory_ms):
            records += self._inventories(now)
        if not records:
            return
        try:
            self._publisher.publish(records)
        except NotAcknowledgedError as error:
            log.error("reports wait for the broker", extra={"fields": {"reports": len(reports), "error": str(error)}})
            self._due.pop("inventory", None)
            return
        self._acknowledged = last
        self._refused.clear()

    def _notices(self, by_ms: int, now: int) -> list[OutgoingRecord]:
        """Name the nodes and not the region: the next machine that hosts it has another name, and is not drained."""
        return [
            self._region_report(fleet.region, "notice", now, nodes=list(fleet.nodes)[:MOST_IN_NOTICE], by_ms=by_ms)
            for fleet in self._fleets
        ]

    def _inventories(self, now: int) -> list[OutgoingRecord]:
        records: list[OutgoingRecord] = []
        for fleet in self._fleets:
            record = self._region_report(fleet.region, "inventory", now)
            if record.size_bytes() <= record.max_bytes:
                records.append(record)
            else:
                log.error(
                    "the inventory does not fit into one message; lost and stale tasks are not found this way",
                    extra={"fields": {"region": fleet.region, "bytes": record.size_bytes()}},
                )
        return records

    def _region_report(
        self, region: RegionId, kind: str, now: int, nodes: Sequence[str] = (), by_ms: int | None = None
    ) -> OutgoingRecord:
        listed = kind == "inventory"
        assignments = topic_name(ASSIGNMENTS, self._prefix, region)
        status = StatusEvent(
            type=kind,  # type: ignore[arg-type]  # heartbeat, inventory, notice or goodbye
            region=region,
            agent_id=self._agent_id,
            nodes=list(nodes),
            by=by_ms,
            tasks=inventory(self.tasks.held(region)) if listed else [],
            read_to=self._store.fence.read_to(assignments, self._topic_ids.get(assignments, "")) if listed else None,
            claim=kind == "heartbeat" and self._claims,
            needs_command=kind == "heartbeat" and self._runner.needs_command,
            detail=self._trouble() if kind == "heartbeat" else "",
            observed_at=now,
            stamp=self._store.stamp(region, now, numbered=False),
        )
        if kind == "heartbeat":
            self._tenures[region].sending(status)
        return status_record(status, self._prefix)

    def _telemetry(self, now: int) -> list[OutgoingRecord]:
        nodes = self._is_due("nodes", self._settings.telemetry_ms)
        links = self._is_due("links", self._settings.links_ms)
        if not nodes and not links:
            return []
        records: list[OutgoingRecord] = []
        if self._declarations is not None:
            self._declarations.refresh()
            self._declarations.look_for([fleet.region for fleet in self._fleets], self._steady())
        for fleet in self._fleets:
            samples: list[Sample] = []
            if nodes:
                shown, loads = fleet, self.tasks.capacity.loads(fleet.region)
                if fleet.is_host:
                    shown, loads = self._host(fleet)
                samples += node_samples(shown, loads, takes_new=self._full is None)
            if links:
                samples += [*link_samples(fleet, self._rng), *price_samples(fleet)]
            records += self._telemetry_records(fleet.region, self._leaving(fleet.region, samples, now), now)
        return records

    def _leaving(self, region: RegionId, samples: Sequence[Sample], now: int) -> list[Sample]:
        """Prepare samples as it is declared for the region, and say now and then what that has saved."""
        if self._declarations is None:
            return list(samples)
        prepared, before = self._prepared[region], self._prepared[region].revision
        held = prepared.prepare(self._declarations.of(region))
        if prepared.revision != before:
            fields = {"region": region, "revision": prepared.revision, "before": before}
            log.info("samples are prepared by another declaration", extra={"fields": fields})
        left = [*held, *prepared.take(samples, now)]
        if prepared.revision is not None and self._is_due(f"saved {region}", SAVED_EVERY_MS):
            fields = {"region": region, "revision": prepared.revision, **asdict(prepared.saved)}
            log.info("samples were prepared before they left", extra={"fields": fields})
        return left

    def _host(self, fleet: RegionFleet) -> tuple[RegionFleet, dict[str, NodeLoad]]:
        """Measure this machine, and take off what others than its tasks use."""
        load = host_load()
        nodes = {
            node_id: self._foreign.left(node, load, self.tasks.capacity.memory_gb(fleet.region, node_id))
            for node_id, node in fleet.nodes.items()
        }
        return replace(fleet, nodes=nodes), dict.fromkeys(nodes, load)

    def _telemetry_records(self, region: RegionId, samples: Sequence[Sample], now: int) -> list[OutgoingRecord]:
        records: list[OutgoingRecord] = []
        for first in range(0, len(samples), SAMPLES_PER_RECORD):
            stamp = self._store.stamp(region, now, numbered=False)
            record = TelemetryRecord(
                region=region,
                samples=list(samples[first : first + SAMPLES_PER_RECORD]),
                observed_at=now,
                stamp=stamp,
            )
            event = Envelope(
                event_id=content_id("telemetry", region, stamp.ms, stamp.counter),
                source=f"/thalweg/agent/{region}",
                event_type="telemetry",
                time_ms=now,
            )
            records.append(outgoing(TELEMETRY, self._prefix, record, key=region, region=region, event=event))
        return records

    def _is_due(self, what: str, every_ms: int) -> bool:
        """Whether it is time. The next time follows from this one's plan, so that late rounds do not add up."""
        now = self._steady()
        due = self._due.get(what, now)
        if now < due:
            return False
        self._due[what] = max(due + every_ms, now)
        return True


def _dead_letter(record: IncomingRecord, reason: str, prefix: str) -> OutgoingRecord:
    return dead_letter(RefusedRecord.of(record, flow="agent", rule="assignment", reason=reason), prefix)
