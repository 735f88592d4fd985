"""Place tasks: requests and reports in, ledger rows and assignment events out, one plan per micro-batch.

The order within a micro-batch (docs/explanation/exactly-once.md) is what lets it be killed anywhere: read, look whether
the ledger has the batch, fold, plan, commit, publish what was committed.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from conf.readiness import announce_progress
from conf.settings import Settings
from jobs import local
from jobs import place_metrics as metrics
from jobs.beside import run_beside
from jobs.courtesy import Courtesy
from jobs.garbage import Garbage
from jobs.place_settings import plan_settings, tenants_of
from jobs.place_tables import PlaceTables, PlanRecord
from jobs.runtime import Clock, Flow, Stop, checkpoint_for, job_main, steady_clock
from scheduling import decide
from scheduling.hearing import BEAT_MS, Hearing, Position, Reached, Sounding
from scheduling.live_plan import Plan, PlanSettings
from scheduling.micro_batch import plan
from scheduling.pack import Packer
from scheduling.tasks import Change, Transition
from scheduling.told import Told
from scheduling.warm_up import warm_up
from scheduling.world import World
from streams import inbox
from streams.admin import ensure_topics
from streams.assignments import event_id_of, event_record
from streams.deadletter import RefusedRecord, dead_letter
from streams.envelope import Envelope, content_id
from streams.errors import NotAcknowledgedError
from streams.lag import end_of_batch
from streams.messages import Stamp, StatusEvent
from streams.publish import KafkaPublisher, OutgoingRecord, Publisher, outgoing
from streams.range_reader import RangeReader
from streams.requests import read_spec, spec_of
from streams.soundings import TopicEnds
from streams.sources import read_pattern
from streams.topics import ASSIGNMENTS, REQUESTS, STATUS, topic_name, topic_pattern
from sync.lease import hold_lease
from sync.ledger import Ledger, from_rows, to_rows
from sync.world_tables import WorldFacts, WorldTables

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
regions could be heard (scheduling.hearing)."""

SWITCH_INTERVAL_S: Final = 0.001
"""How long a thread may keep the interpreter from the micro-batch's. Python's 5 ms were paid at every wait of a batch
(file, broker, Arrow) while the threads beside it fold the ledger."""

_UNPLANNABLE: Final[set[tuple[str, int]]] = set()

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
        transitions, repeated, refused = self._fold(received, batch_id, now_ms)
        made = self._plan(query_id, batch_id, now_ms)
        if made is not None:
            transitions += self._apply(decide.place(self.world, made, plan_id_of(query_id, batch_id), now_ms))
        planned = time.perf_counter()
        event_ids = [event_id_of(row) for row in transitions]
        if transitions:
            rows = to_rows(
                transitions, event_ids, query_id=query_id, batch_id=batch_id, driver_epoch=self.ledger.driver_epoch
            )
            self._commit(rows, query_id, batch_id)
            self.tables.put(rows)
        committed = time.perf_counter()
        events = self._events(transitions, event_ids)
        self._publish([*events, *self._again(repeated), *refused])
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
            self.tables.put_plan(
                PlanRecord.of(made, plan_id_of(query_id, batch_id), query_id, batch_id, now_ms, self.world, steps)
            )

    def publish_again(self, received: pa.Table, query_id: str, batch_id: int) -> None:
        """Publish what a batch that the ledger has may not have published: its events, and what it refused.

        Refusals are not in the ledger. They are what the records say again, but for the requests that were taken; one
        that came before its own task is judged by a world without tasks, as it was.
        """
        rows, event_ids = self._committed(query_id, batch_id)
        taken = {(row.topic, row.topic_partition, row.topic_offset) for row in rows}
        begun = {
            row.task_id: (row.topic_timestamp_ms, row.topic, row.topic_partition, row.topic_offset)
            for row in rows
            if row.change is Change.SUBMITTED
        }
        refused: list[OutgoingRecord] = []
        for item in inbox.read(received, self.settings.kafka.topic_prefix):
            if isinstance(item, inbox.Malformed):
                refused.append(self._refuse_malformed(item))
            elif isinstance(item, inbox.Asked):
                origin = item.origin
                at = (origin.topic, origin.partition, origin.offset)
                if at not in taken:
                    too_early = (origin.timestamp_ms, *at) < begun.get(item.request.task_id, ())
                    outcome = self._request(item, self.clock(), World() if too_early else self.world)
                    refused += [self._refuse_request(item, outcome)] if isinstance(outcome, decide.Refused) else []
        self._publish([*self._events(rows, event_ids), *refused])

    # The steps

    def _read(self, batch: "DataFrame", batch_id: int) -> pa.Table:
        """Take the batch's records from the reader that is ahead of them, or else through Spark: the same records."""
        ahead = self.reader
        received = None if ahead is None else ahead.read_batch(checkpoint_for(self.settings, FLOW), batch_id)
        metrics.READ_THROUGH.labels("spark" if received is None else "driver").inc()
        return collect(batch) if received is None else received

    def _fold(
        self, received: pa.Table, batch_id: int, now_ms: int
    ) -> tuple[list[Transition], list[tuple[Transition, str]], list[OutgoingRecord]]:
        rows: list[Transition] = []
        repeated: list[tuple[Transition, str]] = []
        refused: list[OutgoingRecord] = []
        rows += self._take_facts(now_ms)
        for item in inbox.read(received, self.settings.kafka.topic_prefix):
            if isinstance(item, inbox.Malformed):
                refused.append(self._refuse_malformed(item))
            elif isinstance(item, inbox.Reported):
                rows += self._report(item.event, item.origin, repeated, now_ms)
            else:
                outcome = self._request(item, now_ms, self.world)
                if isinstance(outcome, decide.Refused):
                    refused.append(self._refuse_request(item, outcome))
                else:
                    rows += self._apply(outcome)
        for region, silent_ms in self._silent_regions(batch_id).items():
            log.warning("region lost", extra={"fields": {"region": region, "silent_ms": silent_ms}})
            self.world.lose_region(region)
            rows += self._apply(decide.lose_region(self.world, region, silent_ms, now_ms))
        return rows, repeated, refused

    def _silent_regions(self, batch_id: int) -> dict[str, int]:
        prefix = self.settings.kafka.topic_prefix
        topics = {
            region: topic_name(STATUS, prefix, region) for region, state in self.world.regions.items() if not state.lost
        }
        return self.hearing.silent(topics, lambda: self.end_of_batch(batch_id) or {})

    def _take_facts(self, now_ms: int) -> list[Transition]:
        facts = self.facts()
        if facts.links is not None:
            self.world.set_links(facts.links)
        if facts.prices is not None:
            self.world.set_prices(facts.prices)
        if facts.datasets is not None:
            self.world.set_datasets(facts.datasets)
        if facts.nodes is None:
            return []
        hit = self.world.set_nodes(facts.nodes)
        return self._apply(decide.lose_copies(self.world, hit, "its node is gone", now_ms))

    def _request(self, asked: inbox.Asked, now_ms: int, world: World) -> list[Transition] | decide.Refused:
        metrics.REQUESTS_SEEN.inc()
        request = asked.request
        if request.op == "cancel":
            return decide.cancel(world, request.task_id, asked.origin, now_ms)
        spec = spec_of(request)
        most = self.settings.place.max_task_gpus
        if spec.gpus > most:
            return decide.Refused(reason=f"{spec.gpus:.0f} GPUs in all: allowed are {most} (place.max_task_gpus)")
        take = decide.submit if request.op == "submit" else decide.update
        return take(world, request.task_id, spec, asked.raw, asked.content_hash, asked.origin, now_ms)

    def _report(
        self, event: StatusEvent, origin: decide.Origin, repeated: list[tuple[Transition, str]], now_ms: int
    ) -> list[Transition]:
        record = Position(topic=origin.topic, partition=origin.partition, offset=origin.offset)
        if event.region == CONTROL_REGION and event.type == "heartbeat" and event.agent_id == self.hearing.life:
            self.hearing.read_back(event.stamp.seq if event.stamp is not None else 0)
        if self.hearing.hear(event.region, record, event.agent_id):
            if event.type == "goodbye":
                self.world.close_region(event.region)
            else:
                self.world.hear(event.region, now_ms)
        place = self.settings.place
        if event.type == "inventory":
            held = {task.task_id: task.epoch for task in event.tasks}
            topic = topic_name(ASSIGNMENTS, self.settings.kafka.topic_prefix, event.region)
            knew = self.told.knew(topic, record, event.read_to)
            repairs = decide.reconcile(self.world, event.region, held, knew, place.accept_timeout_ms, now_ms)
            repeated += ((decide.assigned_again(task, copy), task.request) for task, copy in repairs.again)
            return self._apply(repairs.transitions)
        if event.task_id is None:
            return []
        return self._apply(
            decide.report(
                self.world,
                event.region,
                event.type,
                event.task_id,
                event.epoch,
                event.detail,
                place.max_attempts,
                now_ms,
            )
        )

    def _apply(self, rows: list[Transition]) -> list[Transition]:
        for row in rows:
            self.world.apply(row)
        return rows

    def _plan_settings(self) -> PlanSettings:
        deadline = time.perf_counter() + self.settings.place.plan_deadline_ms / 1000
        return replace(plan_settings(self.settings.place), remaining_s=lambda: deadline - time.perf_counter())

    def _commit(self, rows: pa.Table, query_id: str, batch_id: int) -> None:
        """Commit, and try again for as long as the warehouse does not take it (a full disk, an unreachable store)."""
        while True:
            try:
                self.ledger.commit(rows, query_id, batch_id)
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
            if record.topic.startswith(assignments):
                self.told.note(record.topic, (record.key or b"").decode())

    def _events(self, transitions: list[Transition], event_ids: list[str | None]) -> list[OutgoingRecord]:
        prefix = self.settings.kafka.topic_prefix
        return [
            event_record(row, event_id, self._request_text(row.task_id), prefix)
            for row, event_id in zip(transitions, event_ids, strict=True)
            if event_id is not None
        ]

    def _again(self, repeated: list[tuple[Transition, str]]) -> Iterator[OutgoingRecord]:
        for row, request in repeated:
            event_id = event_id_of(row)
            assert event_id is not None
            yield event_record(row, event_id, request, self.settings.kafka.topic_prefix)

    def _request_text(self, task_id: str) -> str:
        task = self.world.tasks.get(task_id)
        return "" if task is None else task.request

    def _committed(self, query_id: str, batch_id: int) -> tuple[list[Transition], list[str | None]]:
        rows = self.ledger.batch(query_id, batch_id)
        return from_rows(rows, read_spec), rows.column("event_id").to_pylist()

    def _refuse_malformed(self, item: inbox.Malformed) -> OutgoingRecord:
        return self._refuse(item.origin, item.reason, item.key, item.value)

    def _refuse_request(self, item: inbox.Asked, outcome: decide.Refused) -> OutgoingRecord:
        return self._refuse(item.origin, outcome.reason, item.request.task_id.encode(), item.raw.encode())

    def _refuse(self, origin: decide.Origin, reason: str, key: bytes | None, value: bytes | None) -> OutgoingRecord:
        refused = RefusedRecord(
            flow=FLOW.name,
            rule="request" if origin.topic.endswith(REQUESTS.topic) else "report",
            reason=reason[:1_000],  # a reason quotes what was seen, which may be long: in full it is the record's value
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


def plan_id_of(query_id: str, batch_id: int) -> str:
    """Id of a batch's plan: a replay of the batch gives the same."""
    return content_id(query_id, batch_id)[:16]


def collect(batch: "DataFrame") -> pa.Table:
    """Bring a batch of Kafka records to the driver as Arrow, with inbox.COLUMNS."""
    return batch.selectExpr(
        "topic", "partition", "offset", "unix_millis(timestamp) AS timestamp_ms", "key", "value"
    ).toArrow()


def rebuild(ledger: Ledger, tables: PlaceTables, now_ms: int) -> World:
    """Make the world that the ledger's rows lead to."""
    world, read = World(), 0
    for rows in ledger.all_rows():
        read += rows.num_rows
        announce_progress(f"place: {read:,} rows of the ledger read")
        tables.put(rows)
        for row in from_rows(rows, read_spec):
            world.apply(row)
            if row.region is not None and row.change is Change.ASSIGNED:
                world.expect(row.region, now_ms)
    return world


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
    ensure_topics(settings.kafka, [CONTROL_REGION])
    ledger = Ledger.claim(settings.warehouse.path)
    place, courtesy = settings.place, Courtesy()
    tables = PlaceTables(settings.warehouse.path, place.folds_every_ms, place.compact_every_s, stop, rest=courtesy.rest)
    began = time.perf_counter()
    world = rebuild(ledger, tables, clock())
    world.set_tenants(tenants_of(settings.place))
    log.info(
        "world rebuilt",
        extra={"fields": {"tasks": len(world.tasks), "seconds": round(time.perf_counter() - began, 2)}},
    )
    facts = FactsReader(WorldTables(settings.warehouse.path, settings.place.node_timeout_ms))
    facts.read()  # the first batch knows the world
    publisher = KafkaPublisher(settings.kafka, timeout_ms=settings.place.publish_timeout_ms, client_id="thalweg-place")
    reader = RangeReader(settings.kafka) if settings.place.read_ahead else None
    prefix = settings.kafka.topic_prefix
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
    pattern = f"{topic_name(REQUESTS, prefix)}|{topic_pattern(STATUS, prefix)}".replace(
        f"{prefix}.requests", f"{prefix}\\.requests"
    )
    return (
        read_pattern(spark, settings.kafka, pattern, max_records_per_batch=settings.place.max_records_per_batch)
        .writeStream.queryName(FLOW.name)
        .option("checkpointLocation", checkpoint_for(settings, FLOW))
        .trigger(processingTime=f"{settings.place.trigger_ms} milliseconds")
        .foreachBatch(placer.process)
        .start()
    )


def run(settings: Settings) -> None:
    """Run as a Spark application of its own, until asked to stop; a query that fails is started again."""
    local.run(settings, (FLOW.name,))


if __name__ == "__main__":
    job_main(run, __doc__ or "")
