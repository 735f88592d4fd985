"""Telemetry in: every region's samples into the history, and the latest per node, link and price beside it.

`telemetry.<region>` -> `telemetry`, `nodes`, `links`, `prices`; what is refused -> `quarantine`, `deadletter`.

The micro-batch (`microbatch`), which can be killed anywhere (docs/explanation/exactly-once.md):

1. Take its records in, ahead of it or through Spark; a very large one in Spark's tasks       `streams.telemetry`
2. Commit the accepted samples to the history; the latest tables follow beside the stream     `telemetry.observer`
3. Commit what was refused to quarantine, and publish whole records to the dead letters       ORDER
"""

import logging
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from thalweg.conf.settings import Settings
from thalweg.jobs import local
from thalweg.jobs.microbatch.dead_letters import DeadLetters
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.microbatch.microbatch import Microbatch
from thalweg.jobs.microbatch.reading import Reading
from thalweg.jobs.runtime.append_upkeep import AppendUpkeep
from thalweg.jobs.runtime.background import run_in_background
from thalweg.jobs.runtime.health import STALE_S
from thalweg.jobs.runtime.job import Flow, Stop, checkpoint_for, job_main
from thalweg.jobs.runtime.origin import LOOK_EVERY_S, OriginWatch
from thalweg.jobs.telemetry.observer import ORDER, Observer, TakenIn
from thalweg.jobs.telemetry.progress import ProgressReport
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.publish import KafkaPublisher
from thalweg.streams.broker.range_reader import RangeReader
from thalweg.streams.broker.sources import read_regions
from thalweg.streams.contract import topics
from thalweg.streams.telemetry.intake import FLOW_NAME, take_in
from thalweg.streams.telemetry.intake_ahead import PIECE_EVERY_S, IntakeAhead
from thalweg.streams.telemetry.record_rows import to_records
from thalweg.streams.telemetry.rules import site_rules
from thalweg.sync.clock import Clock
from thalweg.sync.delta import contracts as tables
from thalweg.sync.delta.appender import Appender
from thalweg.sync.tables.latest_tables import LatestTables
from thalweg.sync.tables.recognise import Recogniser, known_until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

log = logging.getLogger("thalweg.observe")

FLOW = Flow(
    name=FLOW_NAME,
    reads_topics=(topics.TELEMETRY.topic,),
    writes_topics=(topics.DEADLETTER.topic,),
    writes_tables=tuple(
        table.name for table in (tables.TELEMETRY, tables.NODES, tables.LINKS, tables.PRICES, tables.QUARANTINE)
    ),
)
PROGRESS_EVERY_S = 1.0
# Agents send many samples in a record. Above this many records a micro-batch (10,000 a second) Spark's own consumer is
# cheaper than one in Python.
READ_AHEAD_RECORDS = 5_000
RECOGNISED_RECORDS = 20_000


def start(
    spark: "SparkSession", settings: Settings, clock: Clock, stop: Stop, host: Host | None = None
) -> "StreamingQuery":
    """Start the query and return it; the caller decides how long to wait.

    Args:
        spark: the session; several queries may share it.
        settings: everything.
        clock: the wall clock.
        stop: asked when the query has ended or shall end: it ends what runs beside the query, and a batch that waits
            for a full disk.
        host: what earlier lives have left is not needed: a record is judged alone, and found again on the spot.

    Raises:
        RulesError: the rule file that the settings name cannot be read.
        BrokerUnavailableError: nobody answers at the bootstrap servers.
        OSError: the warehouse cannot be written.
    """
    observe, prefix = settings.observe, settings.kafka.topic_prefix
    watch = OriginWatch(
        settings,
        FLOW,
        tables.TELEMETRY,
        topics.topic_pattern(topics.TELEMETRY, prefix),
        known=lambda: known_until(settings.warehouse.path),
    )
    watch.settle()
    ensure_topics(settings.kafka, contracts=[topics.DEADLETTER])
    history = Appender(tables.TELEMETRY, settings.warehouse.path)
    quarantine = Appender(tables.QUARANTINE, settings.warehouse.path)
    latest = LatestTables(settings.warehouse.path)
    checkpoint = checkpoint_for(settings, FLOW)
    upkeeps = [AppendUpkeep(table, clock, stop) for table in (history, quarantine)]
    rules = site_rules(observe)

    def commit_upkeep() -> None:
        for upkeep in upkeeps:
            upkeep.commit()

    def taken_in(received: pa.Table) -> TakenIn:
        rows = to_records(received)
        return take_in(rows, rules, prefix), rows

    ahead: IntakeAhead | None = None
    if observe.read_ahead:
        reader = RangeReader(settings.kafka, largest_records=READ_AHEAD_RECORDS)
        ahead = IntakeAhead(reader, partial(take_in, rules=rules, topic_prefix=prefix))
    dead_letters = DeadLetters(
        prefix, lambda: KafkaPublisher(settings.kafka, client_id="thalweg-observe", keeps_topics=True)
    )
    observer = Observer(
        settings=settings,
        rules=rules,
        history=history,
        quarantine=quarantine,
        latest=latest,
        checkpoint=checkpoint,
        reading=Reading(
            job=FLOW.name,
            checkpoint=checkpoint,
            ahead=ahead.read if ahead is not None else None,
            made_of=taken_in,
            unread=watch.unread,
        ),
        clock=clock,
        recogniser=Recogniser(watch.known_until),
    )
    batches = Microbatch(
        job=FLOW.name,
        order=ORDER,
        read=observer.read,
        decide=observer.decide,
        dead_letters=dead_letters,
        stop=stop,
        pulse=host.pulse if host is not None else None,
        upkeep=commit_upkeep,
    )

    def close() -> None:
        if ahead is not None:
            ahead.close()
        dead_letters.close()

    most = observe.max_records_per_batch
    records = read_regions(
        spark,
        settings.kafka,
        topics.TELEMETRY,
        # What is to be recognised goes through the driver, so it comes in batches that the driver can hold.
        max_records_per_batch=most if observer.recogniser.is_done else min(most, RECOGNISED_RECORDS),
        begin_at=watch.begin_at,
    )
    query = (
        records.writeStream.queryName(FLOW.name)
        .option("checkpointLocation", checkpoint)
        .trigger(processingTime=f"{observe.trigger_ms} milliseconds")
        .foreachBatch(batches)
        .start()
    )
    run_in_background(
        "observe-latest",
        latest.write,
        every_s=observe.latest_every_ms / 1000,
        stop=stop,
        close=close,
        keeps="what nodes, links and prices say",
        told_after_s=STALE_S,
    )
    if ahead is not None:
        run_in_background("observe-ahead", ahead.step, every_s=PIECE_EVERY_S, stop=stop)
    report = ProgressReport(query, settings.kafka)
    run_in_background("observe-progress", report.step, every_s=PROGRESS_EVERY_S, stop=stop, close=report.close)
    run_in_background("observe-origin", partial(watch.step, query), every_s=LOOK_EVERY_S, stop=stop)
    if observe.compact_every_s:
        for name, step in (("telemetry", upkeeps[0].step), ("quarantine", upkeeps[1].step), ("latest", latest.tidy)):
            run_in_background(f"observe-upkeep-{name}", step, every_s=observe.compact_every_s, stop=stop)
    return query


def run(settings: Settings) -> None:
    """Run as a Spark application of its own, until asked to stop; a query that fails is started again."""
    local.run(settings, (FLOW.name,))


if __name__ == "__main__":
    job_main(run, __doc__ or "")
