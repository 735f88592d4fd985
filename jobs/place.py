"""Place tasks: requests and reports in, ledger rows and assignment events out, one plan per micro-batch.

The order within a micro-batch (docs/explanation/exactly-once.md) is what lets it be killed anywhere: read, look whether
the ledger has the batch, fold, plan, commit, publish what was committed.
"""

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from thalweg.conf.readiness import announce_progress
from thalweg.conf.settings import Settings
from thalweg.jobs import local
from thalweg.jobs.placement import metrics
from thalweg.jobs.placement.settings import plan_settings, tenants_of
from thalweg.jobs.placement.tables import PlaceTables, PlanRecord
from thalweg.jobs.runtime.beside import run_beside
from thalweg.jobs.runtime.courtesy import Courtesy
from thalweg.jobs.runtime.garbage import Garbage
from thalweg.jobs.runtime.isolation import Indigestible, Isolation, Place
from thalweg.jobs.runtime.job import Clock, Flow, Stop, checkpoint_for, job_main, steady_clock
from thalweg.jobs.runtime.origin import LOOK_EVERY_S, OriginWatch
from thalweg.scheduling.live import decide
from thalweg.scheduling.live.live_plan import Plan, PlanSettings
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.live.warm_up import warm_up
from thalweg.scheduling.liveness.hearing import BEAT_MS, Hearing, Position, Reached, Sounding
from thalweg.scheduling.liveness.told import Told
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.facts import NODE_SEPARATOR, Tenant, WorldFacts
from thalweg.scheduling.world.making import world_from
from thalweg.scheduling.world.tasks import TERMINAL, Change, Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.broker.admin import ensure_topics, raise_limits
from thalweg.streams.broker.deadletter import RefusedRecord, dead_letter
from thalweg.streams.broker.errors import NotAcknowledgedError
from thalweg.streams.broker.lag import end_of_batch
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord, Publisher, check_sizes, outgoing
from thalweg.streams.broker.range_reader import RangeReader, Ranges, batch_ranges
from thalweg.streams.broker.soundings import TopicEnds
from thalweg.streams.broker.sources import read_pattern
from thalweg.streams.contract.envelope import Envelope, content_id
from thalweg.streams.contract.messages import Stamp, StatusEvent
from thalweg.streams.contract.topics import ASSIGNMENTS, REQUESTS, STATUS, topic_name, topic_pattern
from thalweg.streams.placement import event_size, inbox
from thalweg.streams.placement.assignments import event_id_of, event_record
from thalweg.streams.placement.requests import read_spec, spec_of
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.lease import hold_lease
from thalweg.sync.ledger.ledger import Ledger, from_rows, to_rows
from thalweg.sync.tables.world_tables import WorldTables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

FLOW: Final = Flow(
    name="place",
    reads_topics=("requests", "status"),
    reads_tables=("nodes", "links", "prices", "records", "decisions"),
    writes_topics=("assignments", "status", "deadletter"),
    writes_tables=("decisions", "tasks", "placements", "plans"),
)

CONTROL_REGION: Final = "control"
"""Where this job itself runs. Its own heartbeats make batches come when every region is silent, and are what tells that
regions could be heard (thalweg.scheduling.liveness.hearing)."""

LONGEST_DETAIL: Final = 4_000
"""Characters of a report's words that become a row's reason."""

SWITCH_INTERVAL_S: Final = 0.001
"""How long a thread may keep the interpreter from the micro-batch's. Python's 5 ms were paid at every wait of a batch
(file, broker, Arrow) while the threads beside it fold the ledger."""

_UNPLANNABLE: Final[set[tuple[str, int]]] = set()
_ISOLATION: Final = Isolation()

log = logging.getLogger("thalweg.place")


@dataclass(slots=True)
class Placer:
    """One driver's life: the world in memory, the ledger it alone writes, and what a micro-batch does to both."""

    settings: Settings
    ledger: Ledger
    world: World
    publisher: Publisher
    tables: PlaceTables
    facts: Callable[[], WorldFacts]
    """Newest facts read beside the stream, each given once."""
    clock: Clock
    stop: Stop
    packer: Packer
    reader: RangeReader | None = None
    """None reads every batch through Spark."""
    courtesy: Courtesy = field(default_factory=Courtesy)
    surround: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around each batch."""
    unplannable: set[tuple[str, int]] = field(default_factory=set)
    """Query and batch of plans that have failed; outlives this driver's life."""
    left_out: dict[str, dict[Hashable, str]] = field(default_factory=dict)
    """Facts that were shown as left out."""
    unread: Callable[[Ranges, Mapping[tuple[str, int], int]], None] = lambda *_: None
    """Told when a batch has fewer records than offsets: its ranges, and the first offset read of each partition."""
    isolation: Isolation = field(default_factory=Isolation)
    """Records that cannot be digested; outlives this driver's life."""
    hearing: Hearing = None  # type: ignore[assignment]  # set below where nobody takes soundings
    end_of_batch: Callable[[int], Reached | None] = lambda _: None
    """Up to where a batch reads; None where only its records tell."""
    told: Told = field(init=False)

    def __post_init__(self) -> None:
        """Listen."""
        place = self.settings.place
        self.hearing = self.hearing or Hearing(timeout_ms=place.heartbeat_timeout_ms)
        self.told = Told(self.hearing, place.accept_timeout_ms)

    def process(self, batch: "DataFrame", batch_id: int) -> None:
        """Do one micro-batch; see the module's words."""
        with self.courtesy.batch(), self.surround():
            self._process(batch, batch_id)

    def _process(self, batch: "DataFrame", batch_id: int) -> None:
        started = time.perf_counter()
        query_id = batch.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId")
        assert query_id is not None
        received = self._read(batch, batch_id)
        read_s = time.perf_counter() - started
        committed = self.ledger.committed_batch(query_id)
        if committed is not None and batch_id <= committed:
            self.publish_again(received, query_id, batch_id)
        else:
            self.place(received, query_id, batch_id, read_s)

    def _plan(self, query_id: str, batch_id: int, now_ms: int) -> Plan | None:
        """Plan, unless this very batch's plan has failed before: its reports may be what ends the trouble.

        What a failed plan has tried on the nodes is not undone, so this driver's life ends; the next one rebuilds the
        world.
        """
        if (query_id, batch_id) in self.unplannable:
            log.error("a batch is taken without a plan, because its plan failed", extra={"fields": {"batch": batch_id}})
            return None
        try:
            return plan(self.world, self._plan_settings(), now_ms, self.settings.place.seed, self.packer)
        except Exception:
            self.unplannable.add((query_id, batch_id))
            raise

    def place(self, received: pa.Table, query_id: str, batch_id: int, read_s: float = 0.0) -> None:
        """Fold, plan, commit and publish a batch that the ledger does not have."""
        now_ms = self.clock()
        started = time.perf_counter()
        offsets = inbox.offsets_digest(received)
        plan_id = plan_id_of(query_id, batch_id, offsets)
        folded = self._fold(received, batch_id, now_ms)
        transitions, refused = folded.transitions, folded.refused
        made = self._plan(query_id, batch_id, now_ms)
        if made is not None:
            transitions += self._apply(decide.place(self.world, made, plan_id, now_ms))
        planned = time.perf_counter()
        rows, events = self._written(transitions, folded, query_id, batch_id)
        if transitions:
            self._commit(rows, query_id, batch_id, offsets)
            self.tables.put(rows)
        else:
            self.ledger.check_driver()  # a batch without a commit has no other fence
        committed = time.perf_counter()
        self._publish([*events, *self._again(folded.repeated), *refused])
        published = time.perf_counter()
        self._note(made, received, now_ms, len(events), len(refused))
        steps = {
            "read": read_s,
            "plan": planned - started,
            "commit": committed - planned,
            "publish": published - committed,
        }
        for step, seconds in steps.items():
            metrics.BATCH_SECONDS.labels(step).observe(seconds)
        if made is not None:
            self.tables.put_plan(PlanRecord.of(made, plan_id, query_id, batch_id, now_ms, self.world, steps))

    def publish_again(self, received: pa.Table, query_id: str, batch_id: int) -> None:
        """Publish what a batch that the ledger has may not have published: its events, and what it refused.

        Refusals are not in the ledger. They are what the records say again, but for the requests that were taken; one
        that came before its own task is judged by a world without tasks, as it was.

        Where the ledger has the id with other offsets, the checkpoint was put back, and the records are decided as new
        ones; requests that are in the ledger are known by their offsets.
        """
        if not self.ledger.holds(query_id, batch_id, inbox.offsets_digest(received)):
            log.warning(
                "the ledger has this batch's id with other records, because the checkpoint is older than the ledger (a "
                "copy that was put back, or a lost write); its records are decided as new, and requests that were "
                "taken before are known by their offsets: nothing is dropped and nothing runs twice",
                extra={"fields": {"batch": batch_id, "ledger_has": self.ledger.committed_batch(query_id)}},
            )
            self.place(received, query_id, batch_id)
            return
        rows, event_ids = self._committed(query_id, batch_id)
        taken = {Place(row.topic or "", row.topic_partition or 0, row.topic_offset or 0): row for row in rows}
        later = {row.task_id for row in rows if row.change is Change.SUBMITTED}
        """Tasks that the batch submits further on."""
        refused: list[OutgoingRecord] = []
        for item in inbox.read(received, self.settings.kafka.topic_prefix):
            place = place_of(item)
            if place in taken:
                later.discard(taken[place].task_id)
                continue
            world = World() if isinstance(item, inbox.Asked) and item.request.task_id in later else self.world
            outcome = self.isolation.judge(place, partial(self._refusal, item, world))
            if outcome is not None:
                reason = outcome.reason if isinstance(outcome, Indigestible) else outcome
                refused.append(self._refuse(item, reason))
        self._publish([*self._events(rows, event_ids), *refused])

    # The steps

    def _read(self, batch: "DataFrame", batch_id: int) -> pa.Table:
        """Take the batch's records from the reader that is ahead of them, or else through Spark: the same records."""
        ahead = self.reader
        received = None if ahead is None else ahead.read_batch(checkpoint_for(self.settings, FLOW), batch_id)
        metrics.READ_THROUGH.labels("spark" if received is None else "driver").inc()
        if received is not None:
            return received
        received = collect(batch)
        ranges = batch_ranges(checkpoint_for(self.settings, FLOW), batch_id) or {}
        if received.num_rows < sum(end - start for start, end in ranges.values()):
            self.unread(ranges, first_offsets(received))
        return received

    def _fold(self, received: pa.Table, batch_id: int, now_ms: int) -> "_Folded":
        folded = _Folded(transitions=self._take_facts(now_ms))
        rows = folded.transitions
        for item in inbox.read(received, self.settings.kafka.topic_prefix):
            place = place_of(item)
            if isinstance(item, inbox.Reported):
                with self.isolation.applying(place):
                    self._hear(item, now_ms)
            outcome = self.isolation.judge(place, partial(self._judge, item, now_ms))
            if isinstance(outcome, Indigestible | decide.Refused):
                folded.refused.append(self._refuse(item, outcome.reason))
                continue
            with self.isolation.applying(place):
                rows += self._apply(outcome.transitions)
            folded.repeated += [(decide.assigned_again(task, copy), task.request) for task, copy in outcome.again]
            if outcome.transitions:
                folded.of_records.append((place, outcome.transitions))
        for region, silent_ms in self._silent_regions(batch_id).items():
            log.warning("region lost", extra={"fields": {"region": region, "silent_ms": silent_ms}})
            self.world.lose_region(region)
            rows += self._apply(decide.lose_region(self.world, region, silent_ms, now_ms))
        return folded

    def _judge(self, item: inbox.Item, now_ms: int) -> decide.Repairs | decide.Refused:
        """Say what follows from one record; the caller applies it."""
        if isinstance(item, inbox.Malformed):
            return decide.Refused(reason=item.reason)
        if isinstance(item, inbox.Reported):
            return self._report(item, now_ms)
        origin = item.origin
        if self.ledger.taken.has(
            item.request.task_id, origin.topic, origin.partition, origin.offset, origin.timestamp_ms
        ):
            return decide.Repairs()
        outcome = self._request(item, now_ms, self.world)
        return outcome if isinstance(outcome, decide.Refused) else decide.Repairs(transitions=outcome)

    def _refusal(self, item: inbox.Item, world: World) -> str | None:
        """Say why a record of a batch that was taken is refused; None for one that is not."""
        if isinstance(item, inbox.Malformed):
            return item.reason
        if isinstance(item, inbox.Reported):
            return None
        outcome = self._request(item, self.clock(), world)
        return outcome.reason if isinstance(outcome, decide.Refused) else None

    def _written(
        self, transitions: list[Transition], folded: "_Folded", query_id: str, batch_id: int
    ) -> tuple[pa.Table, list[OutgoingRecord]]:
        """Make the ledger's rows and the events before either leaves: what is committed can always be published."""

        def write(transitions: list[Transition]) -> tuple[pa.Table, list[OutgoingRecord]]:
            event_ids = [event_id_of(row) for row in transitions]
            rows = to_rows(
                transitions, event_ids, query_id=query_id, batch_id=batch_id, driver_epoch=self.ledger.driver_epoch
            )
            events = self._events(transitions, event_ids)
            check_sizes(events)
            return rows, events

        try:
            return write(transitions)
        except Exception:
            if not self.isolation.blame(folded.of_records, write):
                self.unplannable.add((query_id, batch_id))  # no record is to blame, so the plan is
            raise

    def _silent_regions(self, batch_id: int) -> dict[str, int]:
        prefix = self.settings.kafka.topic_prefix
        topics = {
            region: topic_name(STATUS, prefix, region) for region, state in self.world.regions.items() if not state.lost
        }
        return self.hearing.silent(topics, lambda: self.end_of_batch(batch_id) or {})

    def _take_facts(self, now_ms: int) -> list[Transition]:
        facts = self.facts()
        hit = self.world.learn(facts)
        rows: list[Transition] = []
        if facts.nodes is not None:
            rows += self._apply(decide.lose_copies(self.world, hit, "its node is gone", now_ms))
            rows += self._apply(decide.leave_overcommitted(self.world, now_ms))
        self._show_left_out()
        return rows

    def _show_left_out(self) -> None:
        """Say once of each fact that cannot be digested why it is left out."""
        for kind, left_out in self.world.left_out.items():
            metrics.LEFT_OUT.labels(kind).set(len(left_out))
            shown = self.left_out.get(kind, {})
            for key, reason in left_out.items():
                if shown.get(key) != reason:
                    what = key.split(NODE_SEPARATOR) if isinstance(key, str) else key
                    fields = {"kind": kind, "key": what, "reason": reason}
                    log.warning("a fact is left out; the others are taken", extra={"fields": fields})
            self.left_out[kind] = dict(left_out)

    def _request(self, asked: inbox.Asked, now_ms: int, world: World) -> list[Transition] | decide.Refused:
        metrics.REQUESTS_SEEN.inc()
        request = asked.request
        if request.op == "cancel":
            return decide.cancel(world, request.task_id, asked.origin, now_ms)
        spec = spec_of(request)
        most = self.settings.place.max_task_gpus
        if spec.gpus > most:
            return decide.Refused(reason=f"{spec.gpus:.0f} GPUs in all: allowed are {most} (place.max_task_gpus)")
        if (too_large := event_size.objection(request)) is not None:
            return decide.Refused(reason=too_large)
        take = decide.submit if request.op == "submit" else decide.update
        return take(world, request.task_id, spec, asked.raw, asked.content_hash, asked.origin, now_ms)

    def _hear(self, said: inbox.Reported, now_ms: int) -> None:
        """Note a sign of life: of a region, or of this job itself, by which it knows what can be heard."""
        event, record = said.event, position_of(said)
        if event.region == CONTROL_REGION and event.type == "heartbeat" and event.agent_id == self.hearing.life:
            self.hearing.read_back(event.stamp.seq if event.stamp is not None else 0)
        if self.hearing.hear(event.region, record, event.agent_id):
            if event.type == "goodbye":
                self.world.close_region(event.region)
            else:
                self.world.hear(event.region, now_ms)

    def _report(self, said: inbox.Reported, now_ms: int) -> decide.Repairs:
        place, event = self.settings.place, said.event
        if event.type == "inventory":
            held = {task.task_id: task.epoch for task in event.tasks}
            topic = topic_name(ASSIGNMENTS, self.settings.kafka.topic_prefix, event.region)
            knew = self.told.knew(topic, position_of(said), event.read_to)
            return decide.reconcile(self.world, event.region, held, knew, now_ms)
        if event.task_id is None:
            return decide.Repairs()
        return decide.Repairs(
            transitions=decide.report(
                self.world,
                event.region,
                event.type,
                event.task_id,
                event.epoch,
                event.detail[:LONGEST_DETAIL],
                place.max_attempts,
                now_ms,
            )
        )

    def _apply(self, rows: list[Transition]) -> list[Transition]:
        for row in rows:
            self.world.follow(row)
        return rows

    def _plan_settings(self) -> PlanSettings:
        deadline = time.perf_counter() + self.settings.place.plan_deadline_ms / 1000
        return replace(plan_settings(self.settings.place), remaining_s=lambda: deadline - time.perf_counter())

    def _commit(self, rows: pa.Table, query_id: str, batch_id: int, offsets: int) -> None:
        """Commit, and try again for as long as the warehouse does not take it (a full disk, an unreachable store)."""
        while True:
            try:
                self.ledger.commit(rows, query_id, batch_id, offsets)
                return
            except OSError as error:
                log.error(
                    "the ledger cannot be written; the batch is held and tried again every second",
                    extra={"fields": {"batch_id": batch_id, "rows": rows.num_rows, "error": str(error)[:500]}},
                )
                if self.stop.wait(1.0):
                    raise

    def _publish(self, records: list[OutgoingRecord]) -> None:
        """Publish, and try again for as long as the broker does not take it: ids make a repetition harmless."""
        while records:
            try:
                self.publisher.publish(records)
                break
            except NotAcknowledgedError as error:
                log.error("events not acknowledged; published again", extra={"fields": {"error": str(error)}})
                if self.stop.wait(0.5):
                    raise
        assignments = f"{self.settings.kafka.topic_prefix}.{ASSIGNMENTS.topic}."
        for record in records:
            if record.topic.startswith(assignments) and record.key is not None:
                self.told.note(record.topic, record.key.decode())

    def _events(self, transitions: list[Transition], event_ids: list[str | None]) -> list[OutgoingRecord]:
        prefix = self.settings.kafka.topic_prefix
        return [
            event_record(row, event_id, self._request_text(row.task_id), prefix)
            for row, event_id in zip(transitions, event_ids, strict=True)
            if event_id is not None and not (row.change is Change.ASSIGNED and self._has_ended(row.task_id))
        ]

    def _again(self, repeated: list[tuple[Transition, str]]) -> Iterator[OutgoingRecord]:
        for row, request in repeated:
            event_id = event_id_of(row)
            assert event_id is not None
            yield event_record(row, event_id, request, self.settings.kafka.topic_prefix)

    def _has_ended(self, task_id: str) -> bool:
        """Tell whether a task is over: nothing of it is begun any more, and its request is no longer kept."""
        task = self.world.tasks.get(task_id)
        return task is None or task.state in TERMINAL

    def _request_text(self, task_id: str) -> str:
        task = self.world.tasks.get(task_id)
        return "" if task is None else task.request

    def _committed(self, query_id: str, batch_id: int) -> tuple[list[Transition], list[str | None]]:
        rows = self.ledger.batch(query_id, batch_id)
        return from_rows(rows, read_spec), rows.column("event_id").to_pylist()

    def _refuse(self, item: inbox.Item, reason: str) -> OutgoingRecord:
        origin = item.origin
        key, value = _bytes_of(item)
        refused = RefusedRecord(
            flow=FLOW.name,
            rule="request" if origin.topic.endswith(REQUESTS.topic) else "report",
            reason=reason,
            topic=origin.topic,
            partition=origin.partition,
            offset=origin.offset,
            key=key,
            value=value,
            received_ms=origin.timestamp_ms,
        )
        return dead_letter(refused, self.settings.kafka.topic_prefix)

    def _note(self, made: Plan | None, received: pa.Table, now_ms: int, events: int, refused: int) -> None:
        metrics.BATCHES.inc()
        metrics.EVENTS.inc(events)
        metrics.REFUSED.inc(refused)
        metrics.WAITING_TASKS.set(len(self.world.waiting))
        if made is not None:
            metrics.PLAN_GAP.set(made.gap)
        if received.num_rows:
            oldest = min(received.column("timestamp_ms").to_pylist())
            metrics.RECORD_LAG.set(max(now_ms - oldest, 0) / 1000)


@dataclass(slots=True, kw_only=True)
class _Folded:
    """What a batch's records came to."""

    transitions: list[Transition]
    """Applied, in order."""
    of_records: list[tuple[Place, list[Transition]]] = field(default_factory=list)
    """Those that follow from one record."""
    repeated: list[tuple[Transition, str]] = field(default_factory=list)
    """Assignments whose event is sent once more, with the task's request."""
    refused: list[OutgoingRecord] = field(default_factory=list)
    """Dead letters."""


def place_of(item: inbox.Item) -> Place:
    """Where an item's record lies."""
    return Place(item.origin.topic, item.origin.partition, item.origin.offset)


def position_of(item: inbox.Item) -> Position:
    """Where an item's record lies, as hearing has it."""
    return Position(topic=item.origin.topic, partition=item.origin.partition, offset=item.origin.offset)


def _bytes_of(item: inbox.Item) -> tuple[bytes | None, bytes | None]:
    """Key and value of a refused record."""
    if isinstance(item, inbox.Malformed):
        return item.key, item.value
    if isinstance(item, inbox.Asked):
        return item.request.task_id.encode(), item.raw.encode()
    return (item.event.task_id or item.event.region).encode(), item.value


def plan_id_of(query_id: str, batch_id: int, offsets: int) -> str:
    """Id of a batch's plan: a replay of the batch gives the same, other records under its id another."""
    return content_id(query_id, batch_id, offsets)[:16]


def collect(batch: "DataFrame") -> pa.Table:
    """Bring a batch of Kafka records to the driver as Arrow, with inbox.COLUMNS."""
    return batch.selectExpr(
        "topic", "partition", "offset", "unix_millis(timestamp) AS timestamp_ms", "key", "value"
    ).toArrow()


def first_offsets(received: pa.Table) -> dict[tuple[str, int], int]:
    """First offset of each partition among a batch's records."""
    first = received.group_by(["topic", "partition"], use_threads=False).aggregate([("offset", "min")])
    return {(row["topic"], row["partition"]): row["offset_min"] for row in first.to_pylist()}


def rebuild(ledger: Ledger, tables: PlaceTables, tenants: Mapping[str, Tenant], now_ms: int) -> World:
    """Make the world that the ledger's rows lead to; what the tables say of places is learned by the first batch."""

    def history() -> Iterator[Transition]:
        read = 0
        for rows in ledger.all_rows():
            read += rows.num_rows
            announce_progress(f"place: {read:,} rows of the ledger read")
            tables.put(rows)
            yield from from_rows(rows, read_spec)

    return world_from(WorldFacts(), history(), now_ms, tenants=tenants)


class FactsReader:
    """Reads the world's tables beside the stream and hands each new reading over once."""

    def __init__(self, tables: WorldTables) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self._fresh = WorldFacts()

    def read(self) -> None:
        """Read what has changed since the last time."""
        facts = self._tables.read()
        with self._lock:
            self._fresh = self._fresh.updated(facts)

    def take(self) -> WorldFacts:
        """Give what is new since the last call."""
        with self._lock:
            fresh, self._fresh = self._fresh, WorldFacts()
        return fresh


def heartbeat(prefix: str, now_ms: int, life: str = "", number: int = 0) -> OutgoingRecord:
    """Make this job's own heartbeat: of the sounding of this number in this life of the job."""
    beat = StatusEvent(
        type="heartbeat",
        region=CONTROL_REGION,
        agent_id=life,
        observed_at=now_ms,
        stamp=Stamp(ms=now_ms, seq=number) if number else None,
    )
    event = Envelope(
        event_id=content_id("heartbeat", CONTROL_REGION, now_ms),
        source="/thalweg/place",
        event_type="status.heartbeat",
        time_ms=now_ms,
    )
    return outgoing(STATUS, prefix, beat, key=CONTROL_REGION, region=CONTROL_REGION, event=event)


def start(spark: "SparkSession", settings: Settings, clock: Clock, stop: Stop) -> "StreamingQuery":
    """Claim the ledger, rebuild the world, and start the query; the caller decides how long to wait.

    Raises:
        LeaseHeldError: another place job holds this warehouse.
    """
    hold_lease(settings.warehouse.path, FLOW.name)
    warm_up(plan_settings(settings.place))
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    prefix = settings.kafka.topic_prefix
    pattern = f"{re.escape(topic_name(REQUESTS, prefix))}|{topic_pattern(STATUS, prefix)}"
    watch = OriginWatch(settings, FLOW, DECISIONS, pattern)
    watch.settle()
    ensure_topics(settings.kafka, [CONTROL_REGION])
    raise_limits(settings.kafka)
    ledger = Ledger.claim(settings.warehouse.path)
    place, courtesy = settings.place, Courtesy()
    tables = PlaceTables(settings.warehouse.path, place.folds_every_ms, place.compact_every_s, stop, rest=courtesy.rest)
    began = time.perf_counter()
    world = rebuild(ledger, tables, tenants_of(settings.place), clock())
    log.info(
        "world rebuilt",
        extra={"fields": {"tasks": len(world.tasks), "seconds": round(time.perf_counter() - began, 2)}},
    )
    facts = FactsReader(WorldTables(settings.warehouse.path, settings.place.node_timeout_ms))
    facts.read()  # the first batch knows the world
    publisher = KafkaPublisher(settings.kafka, timeout_ms=settings.place.publish_timeout_ms, client_id="thalweg-place")
    reader = RangeReader(settings.kafka) if settings.place.read_ahead else None
    ends = TopicEnds(settings.kafka, f"{topic_pattern(STATUS, prefix)}|{topic_pattern(ASSIGNMENTS, prefix)}")
    hearing = Hearing(
        timeout_ms=place.heartbeat_timeout_ms,
        life=content_id("place", settings.warehouse.path, ledger.driver_epoch, clock()),
        start=Sounding(number=0, made_ms=steady_clock(), ends=ends.look()),
    )
    placer = Placer(
        settings=settings,
        ledger=ledger,
        world=world,
        publisher=publisher,
        tables=tables,
        facts=facts.take,
        clock=clock,
        stop=stop,
        packer=Packer(world.nodes),
        reader=reader,
        courtesy=courtesy,
        surround=Garbage(stop).batch,
        unplannable=_UNPLANNABLE,
        unread=watch.unread,
        isolation=_ISOLATION,
        hearing=hearing,
        end_of_batch=lambda batch_id: end_of_batch(checkpoint_for(settings, FLOW), batch_id),
    )
    tables.start(ledger)
    run_beside(
        "place-facts",
        facts.read,
        every_s=settings.place.world_every_ms / 1000,
        stop=stop,
        close=reader.close if reader is not None else None,
    )

    def sound() -> None:
        number = hearing.begin()
        hearing.sounded(Sounding(number=number, made_ms=steady_clock(), ends=ends.look()))
        publisher.publish([heartbeat(prefix, clock(), hearing.life, number)])

    def close() -> None:
        ends.close()
        publisher.close()

    run_beside("place-heartbeat", sound, every_s=BEAT_MS / 1000, stop=stop, close=close)
    records = read_pattern(
        spark,
        settings.kafka,
        pattern,
        max_records_per_batch=settings.place.max_records_per_batch,
        begin_at=watch.begin_at,
    )
    query = (
        records.writeStream.queryName(FLOW.name)
        .option("checkpointLocation", checkpoint_for(settings, FLOW))
        .trigger(processingTime=f"{settings.place.trigger_ms} milliseconds")
        .foreachBatch(placer.process)
        .start()
    )
    run_beside("place-origin", partial(watch.step, query), every_s=LOOK_EVERY_S, stop=stop)
    return query


def run(settings: Settings) -> None:
    """Run as a Spark application of its own, until asked to stop; a query that fails is started again."""
    local.run(settings, (FLOW.name,))


if __name__ == "__main__":
    job_main(run, __doc__ or "")
