"""Telemetry in: every region's samples into the history, and the latest per node, link and price beside it.

`telemetry.<region>` -> `telemetry`, `nodes`, `links`, `prices`; what is refused -> `quarantine`, `deadletter`.
"""

import logging
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import Transaction

from conf.settings import Settings
from jobs.runtime import Clock, Flow, Stop, checkpoint_for, job_main, spark_session, system_clock
from streams import topics
from streams.deadletter import dead_letter
from streams.intake import FLOW_NAME, Intake, take_in
from streams.publish import KafkaPublisher
from streams.rules import load_rules
from streams.sources import read_regions
from streams.telemetry import PARSED, RECORDS
from sync import tables
from sync.appender import Appender
from sync.latest_tables import LatestTables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

LOG = logging.getLogger(__name__)

FLOW = Flow(
    name=FLOW_NAME,
    reads_topics=(topics.TELEMETRY.topic,),
    writes_topics=(topics.DEADLETTER.topic,),
    writes_tables=tuple(
        table.name for table in (tables.TELEMETRY, tables.NODES, tables.LINKS, tables.PRICES, tables.QUARANTINE)
    ),
)
RULES = Path(__file__).resolve().parent.parent / "conf" / "rules" / "telemetry.yaml"
HISTORY_STATISTICS = ("received_at", "observed_at", "stamp_ms", "region", "kind", "topic_partition", "topic_offset")
QUARANTINE_STATISTICS = ("quarantined_at", "topic_offset")


class Observation:
    """One run of the flow: what it holds between micro-batches."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Open the tables."""
        self._settings = settings
        self._clock = clock
        warehouse = settings.warehouse.path
        self._rules = load_rules(RULES, PARSED.names, {"future_limit_ms": settings.observe.future_limit_ms})
        self._history = Appender(tables.TELEMETRY, warehouse, HISTORY_STATISTICS)
        self._quarantine = Appender(tables.QUARANTINE, warehouse, QUARANTINE_STATISTICS)
        self._latest = LatestTables(warehouse)
        self._query_id: Future[str] = Future()

    def take_batch(self, batch: "DataFrame", batch_id: int) -> None:
        """Take one micro-batch; safe to repeat."""
        records = batch.toArrow().cast(RECORDS)
        if records.num_rows == 0:
            return
        intake = take_in(records, self._rules, self._settings.kafka.topic_prefix)
        transaction = Transaction(self._query_id.result(timeout=60), batch_id)
        self._append(self._history, intake.history, transaction)
        self._latest.offer(intake.history, self._history.version)
        self._append(self._quarantine, intake.quarantine, transaction)
        self._publish_refused(intake)

    def _append(self, table: Appender, rows: pa.Table, transaction: Transaction) -> None:
        if rows.num_rows and not table.has_committed(transaction):
            table.commit(table.write(rows, self._clock()), transaction)

    def _publish_refused(self, intake: Intake) -> None:
        if intake.refused:
            with KafkaPublisher(self._settings.kafka, client_id="thalweg-observe") as publisher:
                publisher.publish([dead_letter(record, self._settings.kafka.topic_prefix) for record in intake.refused])

    def accompany(self, query: "StreamingQuery") -> None:
        """Write the latest tables beside the query, until it ends."""
        self._query_id.set_result(str(query.id))
        threading.Thread(target=self._write_latest, args=(query,), name="observe-latest", daemon=True).start()

    def _write_latest(self, query: "StreamingQuery") -> None:
        pause = threading.Event()
        running = True
        while running:
            pause.wait(self._settings.observe.latest_every_ms / 1000)
            running = query.isActive
            try:
                self._latest.write()
            except Exception:
                LOG.exception("nodes, links and prices could not be written; tried again with the next samples")


def start(spark: "SparkSession", settings: Settings, clock: Clock) -> "StreamingQuery":
    """Start the query and return it; the caller decides how long to wait."""
    from pyspark.sql import functions as F  # noqa: N812

    observation = Observation(settings, clock)
    records = read_regions(
        spark, settings.kafka, topics.TELEMETRY, max_records_per_batch=settings.observe.max_records_per_batch
    ).select(
        "key",
        "value",
        "topic",
        F.col("partition").alias("topic_partition"),
        F.col("offset").alias("topic_offset"),
        F.col("timestamp").alias("received_at"),
        F.unix_millis(F.current_timestamp()).alias("batched_ms"),
    )
    query = (
        records.writeStream.queryName(FLOW.name)
        .option("checkpointLocation", checkpoint_for(settings, FLOW))
        .trigger(processingTime=f"{settings.observe.trigger_ms} milliseconds")
        .foreachBatch(observation.take_batch)
        .start()
    )
    observation.accompany(query)
    return query


def run(settings: Settings) -> None:
    """Run until asked to stop."""
    stop = Stop().on_signals()
    with spark_session(FLOW.name, settings) as spark:
        query = start(spark, settings, system_clock)
        while not stop.wait(0.2) and query.isActive:
            pass
        query.stop()


if __name__ == "__main__":
    job_main(run, "Take in telemetry: history, and the latest per node, link and price.")
