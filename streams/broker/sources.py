"""Kafka as a streaming source: every region's copy of a topic by pattern, options from the settings."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.connection import ISOLATION
from thalweg.streams.broker.origin import Place
from thalweg.streams.broker.query_checkpoint import places_as_tree
from thalweg.streams.contract.topics import TopicContract, topic_pattern

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# An answer of the broker waits this long for more bytes. Kafka's default of 500 ms would be added to a micro-batch by
# each partition that has nothing new.
FETCH_WAIT_MS: Final = 10
# After every poll Spark's source asks the broker for the partition's first and last offset, two round trips, and seeks,
# which throws away what the client had fetched ahead. Kafka's default of 500 records a poll therefore reads a megabyte
# to use 500 records of it; a poll must take all that one fetch brings.
POLL_RECORDS: Final = 100_000
FETCH_BYTES: Final = 16 * 1_048_576
# One request, and one try of several: a broker that is gone without a word is asked no longer than this.
_REQUEST_MS: Final = 10_000


def kafka_options(kafka: KafkaSettings) -> dict[str, str]:
    """Options for Spark's Kafka source and sink: the servers and how to speak to them."""
    options = {
        "kafka.bootstrap.servers": kafka.bootstrap_servers,
        "kafka.security.protocol": kafka.security_protocol,
    }
    if kafka.sasl_mechanism is not None:
        password = kafka.sasl_password.get_secret_value() if kafka.sasl_password else ""
        module = "plain.PlainLoginModule" if kafka.sasl_mechanism == "PLAIN" else "scram.ScramLoginModule"
        options |= {
            "kafka.sasl.mechanism": kafka.sasl_mechanism,
            "kafka.sasl.jaas.config": (
                f"org.apache.kafka.common.security.{module} required "
                f"username={_quoted(kafka.sasl_username or '')} password={_quoted(password)};"
            ),
        }
    if kafka.ssl_cafile is not None:
        options |= {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.truststore.location": kafka.ssl_cafile}
    if kafka.ssl_certfile is not None:
        options |= {"kafka.ssl.keystore.type": "PEM", "kafka.ssl.keystore.location": kafka.ssl_certfile}
    return options


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def read_regions(
    spark: "SparkSession",
    kafka: KafkaSettings,
    contract: TopicContract,
    *,
    max_records_per_batch: int,
    begin_at: Mapping[Place, int] | None = None,
) -> "DataFrame":
    """Stream every region's copy of a per-region topic (`read_pattern`)."""
    pattern = topic_pattern(contract, kafka.topic_prefix)
    return read_pattern(spark, kafka, pattern, max_records_per_batch=max_records_per_batch, begin_at=begin_at)


def read_pattern(
    spark: "SparkSession",
    kafka: KafkaSettings,
    pattern: str,
    *,
    max_records_per_batch: int,
    begin_at: Mapping[Place, int] | None = None,
) -> "DataFrame":
    """Stream every topic whose name matches a pattern, from the earliest record on.

    A topic that matches the pattern is read from the next micro-batch after it was made, whole: the source lists the
    topics anew for each micro-batch, so nothing waits for a metadata refresh.

    Args:
        spark: the session.
        kafka: the broker's settings.
        pattern: regular expression for the whole name, as Java reads it.
        max_records_per_batch: bounds a micro-batch after an outage.
        begin_at: where a query without a batch begins, for every partition there is; None, or nothing, is the earliest.
    """
    tries = -(-kafka.patience_ms // _REQUEST_MS)
    options = kafka_options(kafka) | {
        "subscribePattern": pattern,
        "startingOffsets": json.dumps(places_as_tree(begin_at)) if begin_at else "earliest",
        "maxOffsetsPerTrigger": str(max_records_per_batch),
        # A region's topic may be deleted with its region, and retention may overtake a job that was down for a day.
        # Neither may stop the other regions' stream. What is skipped is said and counted (`jobs.runtime.origin`).
        "failOnDataLoss": "false",
        "kafka.isolation.level": ISOLATION,
        "kafka.fetch.max.wait.ms": str(FETCH_WAIT_MS),
        "kafka.max.poll.records": str(POLL_RECORDS),
        "kafka.max.partition.fetch.bytes": str(FETCH_BYTES),
        "kafka.receive.buffer.bytes": str(1_048_576),
        # A failed fetch of offsets is an unreachable broker: the query fails within this time and its owner waits and
        # says so, instead of standing still for Kafka's default of a minute. Each try asks anew who leads a partition:
        # one that has begun waits for the leader it knew, also where another has long taken over.
        "kafka.default.api.timeout.ms": str(kafka.patience_ms // tries),
        "kafka.request.timeout.ms": str(min(kafka.request_timeout_ms, kafka.patience_ms // tries)),
        "kafka.metadata.max.age.ms": "5000",
        "kafkaConsumer.pollTimeoutMs": str(2 * kafka.patience_ms),
        "fetchOffset.numRetries": str(tries),
    }
    return spark.readStream.format("kafka").options(**options).load()
