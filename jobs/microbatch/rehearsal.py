"""What Spark does for the jobs, once and small: so that its JVM has met the classes that a start will want.

``python -m thalweg.jobs.microbatch.rehearsal BOOTSTRAP FOLDER``, called by thalweg/stack/rehearsal.py, whose JVM writes
down at its end which classes these were.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from thalweg.conf.settings import load_settings
from thalweg.jobs.microbatch.reading import collect, selected
from thalweg.jobs.runtime.job import spark_session
from thalweg.streams.broker.sources import read_pattern

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

TOPIC: Final = "rehearsal"
PATIENCE_S: Final = 180.0


def main(bootstrap: str, folder: Path) -> int:
    """Rehearse; return when the JVM has ended."""
    settings = load_settings(None, [f"kafka.bootstrap_servers={bootstrap}", "spark.driver_memory=1g"])
    with spark_session("rehearsal", settings) as spark:
        gateway = spark.sparkContext._gateway
        assert gateway is not None
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
        admin.close()
        producer = KafkaProducer(bootstrap_servers=bootstrap)
        producer.send(TOPIC, key=b"key", value=b"value").get(timeout=60)
        producer.close()
        stream(spark, folder, read_pattern(spark, settings.kafka, TOPIC, max_records_per_batch=10))
        table(spark, str(folder / "table"))
    gateway.proc.stdin.close()  # which ends it
    return int(gateway.proc.wait(PATIENCE_S))


def stream(spark: "SparkSession", folder: Path, records: "DataFrame") -> None:
    """Read a topic in micro-batches, and bring records to Python in both ways that the jobs know."""
    batches = 0

    def batch(frame: "DataFrame", _batch_id: int) -> None:
        nonlocal batches
        collect(frame)
        kept = selected(frame)
        kept.mapInArrow(same, kept.schema).toArrow()
        batches += 1

    query = records.writeStream.option("checkpointLocation", str(folder / "checkpoint")).foreachBatch(batch).start()
    deadline = time.monotonic() + PATIENCE_S
    while not batches and query.isActive and time.monotonic() < deadline:
        time.sleep(0.1)
    query.stop()


def same(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Give back what comes."""
    yield from batches


def table(spark: "SparkSession", path: str) -> None:
    """Write a Delta table, add to it, and ask it."""
    for mode in ("overwrite", "append"):
        spark.range(10).write.format("delta").mode(mode).save(path)
    spark.read.format("delta").load(path).filter("id > 3").groupBy("id").count().toArrow()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
