"""Look at the broker: whose it is, whether it answers, what its clock says, which topics it has."""

import re
import socket
import time
import uuid
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from kafka.errors import KafkaError

from thalweg.checkup.finding import Finding, fine, problem, warning
from thalweg.checkup.machine import skew_finding
from thalweg.conf.settings import KafkaSettings
from thalweg.scheduling.counted import counted
from thalweg.streams.broker.admin import bounds_now, topics_now
from thalweg.streams.broker.connection import connection_options
from thalweg.streams.broker.errors import BrokerUnavailableError
from thalweg.streams.broker.origin import Present, Standing

# A look should not hang where a job would patiently try again.
PATIENCE_MS = 5_000


def broker_findings(
    kafka: KafkaSettings, *, must_answer: bool, is_ours: bool = True, cluster: str | None = None
) -> list[Finding]:
    """Judge the broker, if there is one; whose it is comes first, and on another's nothing is made.

    Args:
        kafka: How to reach it.
        must_answer: Whether a stack runs that says it is there; else nobody listening is nothing wrong.
        is_ours: Whether it was named, or is the running stack's; else it is whoever listens on Kafka's own port.
        cluster: The id it must have; None for one that was named, which may have any.
    """
    where = kafka.bootstrap_servers
    if not must_answer and not _somebody_listens(where):
        return [fine("broker", f"none at {where} (start one: thalweg up)")]
    try:
        admin = KafkaAdminClient(**_options(kafka))
    except KafkaError as error:
        if not is_ours:
            return [fine("broker", f"no stack runs here; what listens at {where} is not its broker")]
        fix = "See the broker's log, and kafka.security_protocol; a local one: thalweg down && thalweg up"
        return [problem("broker", f"{where} does not answer: {error}", fix)]
    try:
        described = admin.describe_cluster()
        seen = f"{where}, cluster {described['cluster_id']}, {counted(len(described['brokers']), 'node')}"
        if not is_ours:
            return [fine("broker", f"no stack runs here; {seen}, is another installation's, and is left alone")]
        if cluster is not None and described["cluster_id"] != cluster:
            fix = "thalweg down && thalweg up, which takes other ports"
            return [problem("broker", f"{seen}, answers in the place of this stack's cluster {cluster}", fix)]
        return [fine("broker", seen), _clock_finding(kafka, admin)]
    except KafkaError as error:
        fix = "See the broker's log; on a secured cluster the user must be allowed to describe it"
        return [problem("broker", f"{where} answers, then fails: {error}", fix)]
    finally:
        admin.close()


def not_ready_finding() -> Finding:
    """Tell of the broker of a stack that runs: where another one listens meanwhile says nothing of it."""
    return warning("broker", "the stack's broker is not ready", "See its state: thalweg ps")


def _clock_finding(kafka: KafkaSettings, admin: KafkaAdminClient) -> Finding:
    """Let the broker stamp one record in a topic of a moment."""
    topic = f"{kafka.topic_prefix}.doctor-{uuid.uuid4().hex[:8]}"
    configs = {"message.timestamp.type": "LogAppendTime", "retention.ms": "60000"}
    try:
        admin.create_topics(
            [NewTopic(name=topic, num_partitions=1, replication_factor=kafka.replication_factor, topic_configs=configs)]
        )
        try:
            producer = KafkaProducer(**_options(kafka), acks="all")
            producer.send(topic, b"").get(timeout=PATIENCE_MS / 1000)  # the first is slow: the second is compared
            before_ms = time.time() * 1000
            stamped = producer.send(topic, b"what time is it?").get(timeout=PATIENCE_MS / 1000)
            after_ms = time.time() * 1000
            producer.close()
        finally:
            admin.delete_topics([topic])
    except KafkaError as error:
        return fine("broker's clock", f"not compared: {error}")
    # The broker stamps whole milliseconds.
    return skew_finding(stamped.timestamp, before_ms - 1, after_ms)


def topics_present(kafka: KafkaSettings, standing: Standing) -> Present | None:
    """Look at the cluster and the topics a checkpoint stands in, and nothing else. None: no broker answers."""
    hurried = kafka.model_copy(update={"request_timeout_ms": PATIENCE_MS})
    try:
        topics = topics_now(hurried, f"{re.escape(kafka.topic_prefix)}\\..*")
        starts, ends = bounds_now(hurried, standing.planned)
    except BrokerUnavailableError:
        return None
    return Present(cluster_id=topics.cluster_id, topic_ids=topics.topic_ids, starts=starts, ends=ends)


def _somebody_listens(bootstrap_servers: str) -> bool:
    # kafka-python tries for its whole patience what one refused connection tells at once.
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=2.0):
                return True
        except (OSError, ValueError):
            continue
    return False


def _options(kafka: KafkaSettings) -> dict[str, Any]:
    return {
        **connection_options(kafka),
        "request_timeout_ms": PATIENCE_MS,
        "bootstrap_timeout_ms": PATIENCE_MS,
    }
