"""What is done to topics: their old records delivered once more, or the topic deleted and made anew."""

import contextlib
from collections.abc import Generator
from itertools import islice
from typing import Final

from thalweg.audit.watch import records_until_now
from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.admin import delete_topic, ensure_topics, existing_topics, identities
from thalweg.streams.broker.errors import BrokerUnavailableError
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord
from thalweg.streams.contract.topics import ASSIGNMENTS, REQUESTS, STATUS, TELEMETRY, topic_name

BY_NAME: Final = {contract.topic: contract for contract in (ASSIGNMENTS, REQUESTS, STATUS, TELEMETRY)}


def repeated(kafka: KafkaSettings, contract: str, region: str, *, first: float, count: int) -> None:
    """Deliver old records once more, as a producer without idempotence, or a mirror, may.

    Args:
        kafka: the broker.
        contract: which kind of topic.
        region: of which region, where there is one for each.
        first: where to begin, as a share of what the topic holds.
        count: of records, at most.
    """
    topic = topic_name(BY_NAME[contract], kafka.topic_prefix, region if BY_NAME[contract].per_region else None)
    held = list(records_until_now(kafka, topics=[topic]))
    again = [
        OutgoingRecord(topic=topic, key=record.key, value=record.value, headers=record.headers)
        for record in islice(held, int(first * len(held)), int(first * len(held)) + count)
    ]
    with KafkaPublisher(kafka, client_id="thalweg-chaos-repeats") as publisher:
        publisher.publish(again)


def made_anew(kafka: KafkaSettings, contract: str, region: str) -> Generator[None, None, None]:
    """Delete a topic, and make it again as soon as the broker has let it go, unless somebody else was faster."""
    topic = topic_name(BY_NAME[contract], kafka.topic_prefix, region)
    _, before = identities(kafka, [topic])
    delete_topic(kafka, topic)
    while True:
        yield
        with contextlib.suppress(BrokerUnavailableError):  # it was hurt meanwhile
            if topic not in existing_topics(kafka):
                ensure_topics(kafka, [region])
                return
            if identities(kafka, [topic])[1][topic] != before[topic]:
                return
