"""Replicate: every region's state changes in, the same records everywhere out.

`state.<region>` -> `records`, `conflicts`, `sync_gaps`, `sync_regions`, `sync_refused` -> `replica`.

The driver holds the records in memory and reads, merges and writes small batches itself: microseconds a key. A batch
that changes many keys is merged in Spark's tasks by the same function, and written by Spark's MERGE.

The micro-batch (`microbatch`), which can be killed anywhere (docs/explanation/exactly-once.md):

1. Read its records, from the reader that is ahead of them or through Spark              `microbatch.reading`
2. Merge them into the centre; a record that is not obeyed is refused, with its reason   `replication.replicator`
3. Publish the merged records to the replica topic, and what was refused                 ORDER
4. Write conflicts, records, gaps and refusals; the regions' state last                  ORDER
"""

from functools import partial
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from thalweg.conf.settings import Settings
from thalweg.jobs import local
from thalweg.jobs.microbatch.dead_letters import DeadLetters
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.microbatch.microbatch import Microbatch
from thalweg.jobs.microbatch.reading import Reading
from thalweg.jobs.replication.alarm import CONTROL_REGION, EVERY_S, Alarm
from thalweg.jobs.replication.refusals import FLOW_NAME
from thalweg.jobs.replication.replicator import ORDER, ReplicationLimits, Replicator
from thalweg.jobs.replication.spark_merge import SparkMerge
from thalweg.jobs.replication.upkeep import TablesUpkeep
from thalweg.jobs.runtime.background import run_in_background
from thalweg.jobs.runtime.job import Flow, Stop, checkpoint_for, job_main
from thalweg.jobs.runtime.origin import LOOK_EVERY_S, OriginWatch
from thalweg.streams.broker.admin import ensure_topics, identities
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.publish import KafkaPublisher
from thalweg.streams.broker.range_reader import RangeReader
from thalweg.streams.broker.sources import read_regions
from thalweg.streams.contract.state_messages import StateInput
from thalweg.streams.contract.topics import DEADLETTER, REPLICA, STATE, region_of_topic, topic_name, topic_pattern
from thalweg.streams.replication.replica_log import KafkaReplicaLog
from thalweg.sync.clock import Clock
from thalweg.sync.delta.contracts import RECORDS
from thalweg.sync.protocol.stamps import FutureLimits
from thalweg.sync.tables.replicate_tables import ReplicateTables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

FLOW: Final = Flow(
    name=FLOW_NAME,
    reads_topics=(STATE.topic,),
    writes_topics=(REPLICA.topic, STATE.topic, DEADLETTER.topic),
    writes_tables=("records", "conflicts", "sync_gaps", "sync_regions", "sync_refused"),
)

READ_AHEAD_RECORDS: Final = 5_000
"""Above this many records a micro-batch, Spark's own consumer is cheaper than one in Python."""


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


def start(
    spark: "SparkSession", settings: Settings, clock: Clock, stop: Stop, host: Host | None = None
) -> "StreamingQuery":
    """Start the query and return it; the caller decides how long to wait.

    Args:
        spark: the session; several queries may share it.
        settings: everything.
        clock: the wall clock.
        stop: ends what runs beside the query, and a batch that waits.
        host: what earlier lives of the query have left; None for nothing.
    """
    host, group, prefix = host or Host(), settings.replicate, settings.kafka.topic_prefix
    watch = OriginWatch(settings, FLOW, RECORDS, topic_pattern(STATE, prefix))
    watch.settle()
    ensure_topics(settings.kafka, [CONTROL_REGION], (STATE, REPLICA, DEADLETTER))
    replica_topic = topic_name(REPLICA, prefix)
    tables = ReplicateTables(settings.warehouse.path)
    replica_log = KafkaReplicaLog(settings.kafka)
    dead_letters = DeadLetters(
        prefix, lambda: KafkaPublisher(settings.kafka, client_id="thalweg-replicate-refused", keeps_topics=True)
    )
    reader = RangeReader(settings.kafka, largest_records=READ_AHEAD_RECORDS) if group.read_ahead else None
    alarm = Alarm(
        lambda: KafkaPublisher(settings.kafka, client_id="thalweg-replicate-alarm", keeps_topics=True), prefix, clock
    )
    replicator = Replicator(
        tables=tables,
        log=replica_log,
        limits=limits_of(settings),
        position=end_of_replica_topic(settings),
        clock=clock,
        isolation=host.isolation,
        merging=SparkMerge(spark, tables, settings.warehouse.path, group),
        replica_topic=identities(settings.kafka, [replica_topic])[1].get(replica_topic, ""),
        state_topics={region_of_topic(name, STATE, prefix): id_ for name, id_ in watch.topic_ids.items()},
        wake_at=alarm.set,
    )
    upkeep = TablesUpkeep(tables, group.compact_every_s, clock, stop)
    batches = Microbatch(
        job=FLOW.name,
        order=ORDER,
        read=Reading(
            job=FLOW.name,
            checkpoint=checkpoint_for(settings, FLOW),
            ahead=reader.read if reader is not None else None,
            made_of=lambda received: received,
            unread=watch.unread,
        ),
        decide=lambda received, batch: replicator.decide(state_inputs(received), batch),
        dead_letters=dead_letters,
        stop=stop,
        pulse=host.pulse,
        around=(host.surround,),
        upkeep=upkeep.between_batches,
    )

    def close() -> None:
        if reader is not None:
            reader.close()
        dead_letters.close()
        replica_log.close()

    run_in_background("replicate-upkeep", upkeep.step, every_s=group.compact_every_s, stop=stop, close=close)
    run_in_background("replicate-alarm", alarm.step, every_s=EVERY_S, stop=stop, close=alarm.close)
    records = read_regions(
        spark, settings.kafka, STATE, max_records_per_batch=group.max_records_per_batch, begin_at=watch.begin_at
    )
    query = (
        records.writeStream.queryName(FLOW.name)
        .option("checkpointLocation", checkpoint_for(settings, FLOW))
        .trigger(processingTime=f"{group.trigger_ms} milliseconds")
        .foreachBatch(batches)
        .start()
    )
    run_in_background("replicate-origin", partial(watch.step, query), every_s=LOOK_EVERY_S, stop=stop)
    return query


def run(settings: Settings) -> None:
    """Run as a Spark application of its own, until asked to stop; a query that fails is started again."""
    local.run(settings, (FLOW.name,))


if __name__ == "__main__":
    job_main(run, __doc__ or "")
