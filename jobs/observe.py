"""Telemetry in: every region's samples into the history, and the latest per node, link and price beside it.

`telemetry.<region>` -> `telemetry`, `nodes`, `links`, `prices`; what is refused -> `quarantine`, `deadletter`.
"""

import logging
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from thalweg.conf.settings import Settings
from thalweg.jobs import local
from thalweg.jobs.runtime.append_upkeep import AppendUpkeep
from thalweg.jobs.runtime.beside import run_beside
from thalweg.jobs.runtime.job import Clock, Flow, Stop, checkpoint_for, job_main
from thalweg.jobs.runtime.origin import LOOK_EVERY_S, OriginWatch
from thalweg.jobs.telemetry.batch import BatchTaker
from thalweg.jobs.telemetry.progress import ProgressReport
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.range_reader import RangeReader
from thalweg.streams.broker.sources import read_regions
from thalweg.streams.contract import topics
from thalweg.streams.telemetry.intake import FLOW_NAME, take_in
from thalweg.streams.telemetry.intake_ahead import PIECE_EVERY_S, IntakeAhead
from thalweg.streams.telemetry.rules import site_rules
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


def start(spark: "SparkSession", settings: Settings, clock: Clock, stop: Stop) -> "StreamingQuery":
    """Start the query and return it; the caller decides how long to wait.

    Args:
        spark: the session; several queries may share it.
        settings: everything.
        clock: the wall clock.
        stop: asked when the query has ended or shall end: it ends what runs beside the query, and a batch that waits
            for a full disk.

    Raises:
        RulesError: the rule file that the settings name cannot be read.
        BrokerUnavailableError: nobody answers at the bootstrap servers.
        OSError: the warehouse cannot be written.
    """
    from pyspark.sql import functions as F  # noqa: N812

    observe = settings.observe
    watch = OriginWatch(
        settings,
        FLOW,
        tables.TELEMETRY,
        topics.topic_pattern(topics.TELEMETRY, settings.kafka.topic_prefix),
        known=lambda: known_until(settings.warehouse.path),
    )
    watch.settle()
    ensure_topics(settings.kafka, contracts=[topics.DEADLETTER])
    history = Appender(tables.TELEMETRY, settings.warehouse.path)
    quarantine = Appender(tables.QUARANTINE, settings.warehouse.path)
    latest = LatestTables(settings.warehouse.path)
    query_id: Future[str] = Future()
    checkpoint = checkpoint_for(settings, FLOW)
    upkeeps = [AppendUpkeep(table, clock, stop) for table in (history, quarantine)]
    rules = site_rules(observe)

    def commit_upkeep() -> None:
        for upkeep in upkeeps:
            upkeep.commit()

    ahead: IntakeAhead | None = None
    if observe.read_ahead:
        reader = RangeReader(settings.kafka, largest_records=READ_AHEAD_RECORDS)
        ahead = IntakeAhead(reader, partial(take_in, rules=rules, topic_prefix=settings.kafka.topic_prefix))
    recogniser = Recogniser(watch.known_until)
    taker = BatchTaker(
        settings=settings,
        rules=rules,
        history=history,
        quarantine=quarantine,
        latest=latest,
        checkpoint=checkpoint,
        ahead=ahead,
        query_id=query_id,
        clock=clock,
        stop=stop,
        between_batches=commit_upkeep,
        recogniser=recogniser,
    )
    most = observe.max_records_per_batch
    records = read_regions(
        spark,
        settings.kafka,
        topics.TELEMETRY,
        # What is to be recognised goes through the driver, so it comes in batches that the driver can hold.
        max_records_per_batch=most if recogniser.is_done else min(most, RECOGNISED_RECORDS),
        begin_at=watch.begin_at,
    ).select(
        "key",
        "value",
        "topic",
        F.col("partition").alias("topic_partition"),
        F.col("offset").alias("topic_offset"),
        # No constant of the micro-batch, such as current_timestamp(), may be here: Spark would compile each batch.
        F.col("timestamp").alias("received_at"),
    )
    query = (
        records.writeStream.queryName(FLOW.name)
        .option("checkpointLocation", checkpoint)
        .trigger(processingTime=f"{observe.trigger_ms} milliseconds")
        .foreachBatch(taker.take)
        .start()
    )
    query_id.set_result(str(query.id))
    run_beside("observe-latest", latest.write, every_s=observe.latest_every_ms / 1000, stop=stop, close=taker.close)
    if ahead is not None:
        run_beside("observe-ahead", ahead.step, every_s=PIECE_EVERY_S, stop=stop)
    report = ProgressReport(query, settings.kafka)
    run_beside("observe-progress", report.step, every_s=PROGRESS_EVERY_S, stop=stop, close=report.close)
    run_beside("observe-origin", partial(watch.step, query), every_s=LOOK_EVERY_S, stop=stop)
    if observe.compact_every_s:
        for name, step in (("telemetry", upkeeps[0].step), ("quarantine", upkeeps[1].step), ("latest", latest.tidy)):
            run_beside(f"observe-upkeep-{name}", step, every_s=observe.compact_every_s, stop=stop)
    return query


def run(settings: Settings) -> None:
    """Run as a Spark application of its own, until asked to stop; a query that fails is started again."""
    local.run(settings, (FLOW.name,))


if __name__ == "__main__":
    job_main(run, __doc__ or "")
