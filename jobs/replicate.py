"""Replicate: every region's state changes in, the same records everywhere out.

`state.<region>` -> `records`, `conflicts`, `sync_gaps`, `sync_regions`, `sync_refused` -> `replica`.

The driver holds the records in memory and reads, merges and writes small batches itself: microseconds a key. A batch
that changes many keys is merged in Spark's tasks by the same function, and written by Spark's MERGE.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from thalweg.conf.settings import Settings
from thalweg.jobs import local
from thalweg.jobs.replication import metrics
from thalweg.jobs.replication.spark_merge import SparkMerge
from thalweg.jobs.replication.upkeep import TablesUpkeep
from thalweg.jobs.runtime.beside import run_beside
from thalweg.jobs.runtime.garbage import Garbage
from thalweg.jobs.runtime.job import Clock, Flow, Stop, checkpoint_for, job_main
from thalweg.jobs.runtime.origin import LOOK_EVERY_S, OriginWatch
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.deadletter import RefusedRecord, dead_letter
from thalweg.streams.broker.publish import KafkaPublisher
from thalweg.streams.broker.range_reader import RangeReader
from thalweg.streams.broker.sources import read_regions
from thalweg.streams.contract.state_messages import StateInput
from thalweg.streams.contract.topics import DEADLETTER, REPLICA, STATE, topic_name, topic_pattern
from thalweg.streams.replication.replica_log import KafkaReplicaLog
from thalweg.streams.replication.replication import FLOW_NAME, BatchReport, Replication, ReplicationLimits
from thalweg.sync.delta.contracts import RECORDS
from thalweg.sync.protocol.stamps import FutureLimits
from thalweg.sync.tables.replicate_tables import ReplicateTables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

FLOW: Final = Flow(
    name=FLOW_NAME,
    reads_topics=(STATE.topic,),
    writes_topics=(REPLICA.topic, DEADLETTER.topic),
    writes_tables=("records", "conflicts", "sync_gaps", "sync_regions", "sync_refused"),
)

READ_AHEAD_RECORDS: Final = 5_000
"""Above this many records a micro-batch, Spark's own consumer is cheaper than one in Python."""

log = logging.getLogger("thalweg.replicate")


class Replicator:
    """One run of the flow: what it holds between micro-batches."""

    def __init__(self, spark: "SparkSession", settings: Settings, clock: Clock, stop: Stop) -> None:
        ensure_topics(settings.kafka, contracts=(REPLICA, DEADLETTER))
        self._settings = settings
        self._clock = clock
        self._checkpoint = checkpoint_for(settings, FLOW)
        self._dead_letters = KafkaPublisher(settings.kafka, client_id="thalweg-replicate-refused")
        tables = ReplicateTables(settings.warehouse.path)
        self._replica_log = KafkaReplicaLog(settings.kafka)
        self.replication = Replication(
            tables, self._replica_log, self._refuse, limits_of(settings), end_of_replica_topic(settings)
        )
        self._spark_merge = SparkMerge(spark, tables, settings.warehouse.path)
        self.upkeep = TablesUpkeep(tables, settings.replicate.compact_every_s, clock, stop)
        self._garbage = Garbage(stop)
        self._reader = (
            RangeReader(settings.kafka, largest_records=READ_AHEAD_RECORDS) if settings.replicate.read_ahead else None
        )

    def take_batch(self, batch: "DataFrame", batch_id: int) -> None:
        """Take one micro-batch; safe to repeat."""
        with self._garbage.batch():
            self._take(batch, batch_id)
        self.upkeep.between_batches()

    def _take(self, batch: "DataFrame", batch_id: int) -> None:
        records = state_inputs(self._read(batch, batch_id))
        if not records:
            return
        now_ms = self._clock()
        with self._spark_merge.batch(self.replication.centre, self._settings.replicate, now_ms) as (merge, write):
            report = self.replication.take(records, batch_id, now_ms, merge, write)
        self._note(report)

    def _read(self, batch: "DataFrame", batch_id: int) -> pa.Table:
        """Take the batch's records from the reader that is ahead of them, or else through Spark: the same records."""
        ahead = self._reader
        received = None if ahead is None else ahead.read_batch(self._checkpoint, batch_id)
        metrics.READ_THROUGH.labels("spark" if received is None else "driver").inc()
        return batch.toArrow() if received is None else received

    def _refuse(self, refused: Sequence[RefusedRecord]) -> None:
        prefix = self._settings.kafka.topic_prefix
        self._dead_letters.publish([dead_letter(record, prefix) for record in refused])

    def close(self) -> None:
        """Give up the connections."""
        if self._reader is not None:
            self._reader.close()
        self._dead_letters.close()
        self._replica_log.close()

    def _note(self, report: BatchReport) -> None:
        metrics.UPDATES.inc(report.updates)
        metrics.REFUSED.inc(len(report.refused))
        metrics.CONFLICTS.inc(report.conflicts)
        metrics.RECORDS_HELD.set(len(self.replication.centre.records))
        for step, milliseconds in report.steps_ms.items():
            metrics.BATCH_SECONDS.labels(step).observe(milliseconds / 1000)
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
    order = [("topic", "ascending"), ("partition", "ascending"), ("offset", "ascending")]
    rows = rows.take(pc.sort_indices(rows, order))
    names = ("topic", "partition", "offset", "timestamp_ms", "key", "value")
    return [
        StateInput(topic=topic, partition=partition, offset=offset, timestamp_ms=at, key=key, value=value)
        for topic, partition, offset, at, key, value in zip(*(rows[n].to_pylist() for n in names), strict=True)
    ]


def start(spark: "SparkSession", settings: Settings, clock: Clock, stop: Stop) -> "StreamingQuery":
    """Start the query and return it; the caller decides how long to wait."""
    watch = OriginWatch(settings, FLOW, RECORDS, topic_pattern(STATE, settings.kafka.topic_prefix))
    watch.settle()
    replicator = Replicator(spark, settings, clock, stop)
    group = settings.replicate
    run_beside(
        "replicate-upkeep", replicator.upkeep.step, every_s=group.compact_every_s, stop=stop, close=replicator.close
    )
    records = read_regions(
        spark, settings.kafka, STATE, max_records_per_batch=group.max_records_per_batch, begin_at=watch.begin_at
    )
    query = (
        records.selectExpr("topic", "partition", "offset", "unix_millis(timestamp) AS timestamp_ms", "key", "value")
        .writeStream.queryName(FLOW.name)
        .option("checkpointLocation", checkpoint_for(settings, FLOW))
        .trigger(processingTime=f"{group.trigger_ms} milliseconds")
        .foreachBatch(replicator.take_batch)
        .start()
    )
    run_beside("replicate-origin", partial(watch.step, query), every_s=LOOK_EVERY_S, stop=stop)
    return query


def run(settings: Settings) -> None:
    """Run as a Spark application of its own, until asked to stop; a query that fails is started again."""
    local.run(settings, (FLOW.name,))


if __name__ == "__main__":
    job_main(run, __doc__ or "")
