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
from typing import Final

import msgspec

from thalweg.agent.assigned import AssignedTasks
from thalweg.agent.fleet import Fleet, host_load, link_samples, node_samples, price_samples
from thalweg.agent.runners import Runner
from thalweg.agent.steady import without_steps_back
from thalweg.agent.store import AgentStore, inventory, status_record
from thalweg.conf.settings import Agent as AgentSettings
from thalweg.streams.broker.consume import IncomingRecord, Reader
from thalweg.streams.broker.deadletter import RefusedRecord, dead_letter
from thalweg.streams.broker.errors import NotAcknowledgedError
from thalweg.streams.broker.publish import OutgoingRecord, Publisher, outgoing
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.envelope import Envelope, content_id
from thalweg.streams.contract.messages import AssignmentEvent, Sample, StatusEvent, TelemetryRecord
from thalweg.streams.contract.topics import ASSIGNMENTS, TELEMETRY, region_of_topic, topic_name
from thalweg.sync.clock import Clock

log = logging.getLogger("thalweg.agent")

STEP_MS: Final = 20
"""Shortest round: without it a steady trickle of events would mean a commit and a request for each."""

OUTBOX_BATCH: Final = 4_000
"""Most reports published in one go: about 2 MB."""

SAMPLES_PER_RECORD: Final = 2_000
"""About 400 kB: well within a message's limit."""

FORGET_EVERY_MS: Final = 60_000
_EVENT: Final = msgspec.json.Decoder(AssignmentEvent)


class RegionalAgent:
    """See the module's words. One thread; time comes from its two clocks alone."""

    def __init__(
        self,
        fleets: Sequence[Fleet],
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
        seed: int = 0,
        steady: Clock | None = None,
    ) -> None:
        """Put an agent together.

        Args:
            fleets: the regions it hosts.
            settings: its intervals.
            prefix: of the topics.
            agent_id: names this start of it.
            store: its file.
            reader: of the regions' assignments.
            publisher: of reports and telemetry.
            runner: what runs tasks.
            clock: the wall clock, for what the agent says of when something happened.
            steady: a clock that never steps, for durations, from the wall clock's time on (thalweg.steady); None takes
                the wall clock without its steps back.
            topic_ids: of each topic of assignments: what was read of a topic of the same name is another's.
            seed: of simulated link probes.
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
        self._rng = random.Random(seed)
        self._acknowledged = 0
        self._refused: list[OutgoingRecord] = []
        self._due: dict[str, int] = {}

    def resume(self) -> None:
        """Take up what an earlier life of this agent left."""
        with self._store.fence.transaction():
            self.tasks.resume(self._clock())
            self._store.save_clocks()

    def step(self, poll_ms: int) -> int:
        """Do one round and return how many records were read.

        Args:
            poll_ms: how long to wait for the first record.
        """
        records = self._reader.poll(poll_ms)
        now = self._clock()
        with self._store.fence.transaction():
            self._clear_outbox()
            for record in records:
                self._take(record, now)
            starting = self.tasks.advance(now)
            if self._is_due("progress", self._settings.progress_ms):
                self.tasks.report_progress(now)
            if self._is_due("forget", FORGET_EVERY_MS):
                self._store.forget(now)
            self._store.save_clocks()
        self.tasks.start(starting)
        self._publish(now)
        return len(records)

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
        self._runner.close()
        with self._store.fence.transaction():
            self._clear_outbox()
            if not self._runner.survives_restart:
                self.tasks.evict_all(self._clock())
        self._publish(self._clock())
        self._say_goodbye(self._clock())
        with self._store.fence.transaction():
            self._clear_outbox()
            self._store.save_clocks()
        self._store.close()

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
        fence = self._store.fence
        fence.move_on(record.topic, record.partition, record.offset + 1, self._topic_ids.get(record.topic, ""))
        region = region_of_topic(record.topic, ASSIGNMENTS, self._prefix)
        try:
            event = decoded(_EVENT, record.value)
            if event.region != region:
                raise UndecodableError(f"region {event.region!r} on the topic of region {region!r}")
        except UndecodableError as error:
            position = {"topic": record.topic, "offset": record.offset, "reason": str(error)}
            log.error("a record that is no assignment was refused", extra={"fields": position})
            self._refused.append(_dead_letter(record, str(error), self._prefix))
        else:
            self.tasks.take(event, now)

    # What is published

    def _publish(self, now: int) -> None:
        reports, last = self._store.outbox(self._prefix, OUTBOX_BATCH)
        records = [*self._refused, *reports, *self._telemetry(now)]
        if self._is_due("heartbeat", self._settings.heartbeat_ms):
            records += (self._region_report(fleet.region, "heartbeat", now) for fleet in self._fleets)
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

    def _region_report(self, region: str, kind: str, now: int) -> OutgoingRecord:
        listed = kind == "inventory"
        assignments = topic_name(ASSIGNMENTS, self._prefix, region)
        status = StatusEvent(
            type=kind,  # type: ignore[arg-type]  # heartbeat, inventory or goodbye
            region=region,
            agent_id=self._agent_id,
            tasks=inventory(self.tasks.held(region)) if listed else [],
            read_to=self._store.fence.read_to(assignments, self._topic_ids.get(assignments, "")) if listed else None,
            observed_at=now,
            stamp=self._store.stamp(region, now, numbered=False),
        )
        return status_record(status, self._prefix)

    def _telemetry(self, now: int) -> list[OutgoingRecord]:
        nodes = self._is_due("nodes", self._settings.telemetry_ms)
        links = self._is_due("links", self._settings.links_ms)
        if not nodes and not links:
            return []
        records: list[OutgoingRecord] = []
        for fleet in self._fleets:
            samples: list[Sample] = []
            if nodes:
                loads = self.tasks.capacity.loads(fleet.region)
                if fleet.is_host:
                    loads = dict.fromkeys(fleet.nodes, host_load())
                samples += node_samples(fleet, loads)
            if links:
                samples += [*link_samples(fleet, self._rng), *price_samples(fleet)]
            records += self._telemetry_records(fleet.region, samples, now)
        return records

    def _telemetry_records(self, region: str, samples: Sequence[Sample], now: int) -> list[OutgoingRecord]:
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
    return dead_letter(
        RefusedRecord(
            flow="agent",
            rule="assignment",
            reason=reason,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            key=record.key,
            value=record.value,
            received_ms=record.timestamp_ms,
        ),
        prefix,
    )
