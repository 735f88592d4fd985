"""The locked jars together: a record goes from Kafka through Spark Structured Streaming into a Delta table."""

import json
import uuid
from pathlib import Path

import pytest
from deltalake import DeltaTable
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from pyspark.sql import SparkSession

pytestmark = pytest.mark.acceptance


def test_records_reach_a_delta_table_that_both_engines_read(broker: str, spark: SparkSession, tmp_path: Path) -> None:
    topic = f"roundtrip-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.create_topics([NewTopic(name=topic, num_partitions=2, replication_factor=1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=broker)
    for number in range(500):
        producer.send(topic, key=b"%d" % number, value=json.dumps({"number": number}).encode())
    producer.flush()
    producer.close()

    stream = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", broker)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .load()
        .selectExpr("get_json_object(CAST(value AS STRING), '$.number')::int AS number", "partition", "offset")
    )
    table = str(tmp_path / "numbers")
    query = (
        stream.writeStream.format("delta")
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start(table)
    )
    assert query.awaitTermination(120)

    assert sorted(row.number for row in spark.read.format("delta").load(table).collect()) == list(range(500))
    assert DeltaTable(table).to_pyarrow_table().num_rows == 500
    spark.sql(
        f"MERGE INTO delta.`{table}` t USING (SELECT 7 AS number) s ON t.number = s.number WHEN MATCHED THEN DELETE"
    )
    assert spark.sql(f"SELECT count(*) AS n FROM delta.`{table}`").collect()[0].n == 499
