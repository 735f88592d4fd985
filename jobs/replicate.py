"""Replicate: every region's state changes in, the same records everywhere out.

`state.<region>` -> `records`, `conflicts`, `sync_gaps`, `sync_regions`, `sync_refused` -> `replica`.

The driver holds the records in memory and merges small batches itself: microseconds a key. A batch that changes many
keys is merged in Spark's tasks by the same function, and written by Spark's MERGE.
"""

import gc
import logging
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from prometheus_client import Counter, Gauge, Histogram

from conf.settings import Settings
from jobs.runtime import Clock, Flow, Stop, checkpoint_for, job_main, spark_session, system_clock
from jobs.spark_merge import SparkMerge
from streams.admin import ensure_topics
from streams.consume import KafkaReader
from streams.deadletter import dead_letter
from streams.publish import KafkaPublisher
from streams.replica_log import KafkaReplicaLog
from streams.replication import FLOW_NAME, BatchReport, Replication, ReplicationLimits
from streams.sources import read_regions
from streams.state_messages import StateInput
from streams.topics import DEADLETTER, REPLICA, STATE, topic_name
from sync.replicate_tables import ReplicateTables
from sync.stamps import FutureLimits

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

FLOW: Final = Flow(
    name=FLOW_NAME,
    reads_topics=(STATE.topic,),
    writes_topics=(REPLICA.topic, DEADLETTER.topic),
    writes_tables=("records", "conflicts", "sync_gaps", "sync_regions", "sync_refused"),
)

log = logging.getLogger("thalweg.replicate")

UPDATES = Counter("thalweg_replicate_updates_total", "Updates merged.")
REFUSED = Counter("thalweg_replicate_refused_total", "Messages refused.")
CONFLICTS = Counter("thalweg_replicate_conflicts_total", "Concurrent pairs of writes.")
RECORDS_HELD = Gauge("thalweg_replicate_records", "Records in the driver's memory.")
BATCH_SECONDS = Histogram(
    "thalweg_replicate_batch_seconds",
    "Time of one micro-batch by step.",
    ["step"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)


class Replicator:
    """One run of the flow: what it holds between micro-batches."""

    def __init__(self, spark: "SparkSession", settings: Settings, clock: Clock) -> None:
        ensure_topics(settings.kafka, contracts=(REPLICA, DEADLETTER))
        self._settings = settings
        self._clock = clock
        self._dead_letters = KafkaPublisher(settings.kafka, client_id="thalweg-replicate-refused")
        tables = ReplicateTables(settings.warehouse.path)
        self.replication = Replication(
            tables, KafkaReplicaLog(settings.kafka), limits_of(settings), end_of_replica_topic(settings)
        )
        self._spark_merge = SparkMerge(spark, tables, settings.warehouse.path)
        gc.collect()
        gc.freeze()  # hundreds of thousands of records that live for ever need no looking at

    def take_batch(self, batch: "DataFrame", batch_id: int) -> None:
        """Take one micro-batch; safe to repeat."""
        records = state_inputs(batch.toArrow())
        if not records:
            return
        now_ms = self._clock()
        # A batch makes many objects and no cycles; looking for cycles meanwhile takes ten times as long as decoding.
        gc.disable()
        try:
            with self._spark_merge.batch(self.replication.centre, self._settings.replicate, now_ms) as (merge, write):
                report = self.replication.take(records, batch_id, now_ms, merge, write)
        finally:
            gc.enable()
        if report.refused:
            prefix = self._settings.kafka.topic_prefix
            self._dead_letters.publish([dead_letter(record, prefix) for record in report.refused])
        self._note(report)

    def _note(self, report: BatchReport) -> None:
        UPDATES.inc(report.updates)
        REFUSED.inc(len(report.refused))
        CONFLICTS.inc(report.conflicts)
        RECORDS_HELD.set(len(self.replication.centre.records))
        for step, milliseconds in report.steps_ms.items():
            BATCH_SECONDS.labels(step).observe(milliseconds / 1000)
        fields = {"records": report.records, "updates": report.updates, "keys": report.keys}
        fields |= {f"{step}_ms": round(milliseconds) for step, milliseconds in report.steps_ms.items()}
        log.debug("batch", extra={"fields": fields})


def limits_of(settings: Settings) -> ReplicationLimits:
    """Read the settings that replication needs."""
    group = settings.replicate
    return ReplicationLimits(
        topic_prefix=settings.kafka.topic_prefix,
        policies={prefix: dict(fields) for prefix, fields in group.policies.items()},
        limits=FutureLimits(park_ms=group.park_ms, warn_ms=group.warn_ms, refuse_ms=group.refuse_ms),
        tombstone_age_ms=group.tombstone_age_ms,
        ask_again_ms=group.ask_again_ms,
        digest_every_ms=group.digest_every_ms,
    )


def end_of_replica_topic(settings: Settings) -> int:
    """Return the position after the newest record of the replica topic."""
    topic = topic_name(REPLICA, settings.kafka.topic_prefix)
    with KafkaReader(settings.kafka, topics=(topic,), client_id="thalweg-replicate-end") as reader:
        return reader.end_offsets()[(topic, 0)]


def state_inputs(rows: pa.Table) -> list[StateInput]:
    """Turn a batch into records, in order of offset within each partition."""
    rows = rows.sort_by([("topic", "ascending"), ("partition", "ascending"), ("offset", "ascending")])
    names = ("topic", "partition", "offset", "timestamp_ms", "key", "value")
    return [
        StateInput(topic=topic, partition=partition, offset=offset, timestamp_ms=at, key=key, value=value)
        for topic, partition, offset, at, key, value in zip(*(rows[n].to_pylist() for n in names), strict=True)
    ]


def start(spark: "SparkSession", settings: Settings, clock: Clock, stop: Stop) -> "StreamingQuery":
    """Start the query and return it; the caller decides how long to wait."""
    del stop  # nothing runs beside this query
    replicator = Replicator(spark, settings, clock)
    group = settings.replicate
    return (
        read_regions(spark, settings.kafka, STATE, max_records_per_batch=group.max_records_per_batch)
        .selectExpr("topic", "partition", "offset", "unix_millis(timestamp) AS timestamp_ms", "key", "value")
        .writeStream.queryName(FLOW.name)
        .option("checkpointLocation", checkpoint_for(settings, FLOW))
        .trigger(processingTime=f"{group.trigger_ms} milliseconds")
        .foreachBatch(replicator.take_batch)
        .start()
    )


def run(settings: Settings) -> None:
    """Run until asked to stop."""
    stop = Stop().on_signals()
    with spark_session(FLOW.name, settings) as spark:
        query = start(spark, settings, system_clock, stop)
        while not stop.wait(0.2) and query.isActive:
            pass
        query.stop()


if __name__ == "__main__":
    job_main(run, __doc__ or "")
