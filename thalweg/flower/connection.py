"""Connect Flower's grids and participants: where a server app's own loop, and the command line, begin."""

from pathlib import Path

from thalweg.conf.settings import KafkaSettings
from thalweg.flower.answer_memory import AnswerMemory
from thalweg.flower.client_node import ClientNode
from thalweg.flower.kafka_grid import KafkaGrid
from thalweg.flower.participant import FlowerParticipant
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.publish import KafkaPublisher
from thalweg.streams.contract.topics import CALLS, REPLIES, topic_name, topic_pattern
from thalweg.streams.learning.payloads import PayloadStore
from thalweg.sync.clock import steady_clock, system_clock

_CLIENT: str = "thalweg-flower"


def kafka_grid(
    run: str, kafka: KafkaSettings, *, payloads: str | None = None, inline_bytes: int = 524_288
) -> KafkaGrid:
    """Begin a run over Kafka, or go on with it.

    Args:
        run: its name; a new run needs a new one.
        kafka: the broker's settings.
        payloads: folder or URI of large contents, which participants reach, too; None where all are small.
        inline_bytes: up to which a content travels in the message.

    Raises:
        BrokerUnavailableError: nobody answers.
        FlowerRunEndedError: the run is over.
    """
    ensure_topics(kafka, (), (CALLS,))
    with KafkaReader(kafka, topics=[topic_name(CALLS, kafka.topic_prefix)], client_id=_CLIENT) as calls:
        return KafkaGrid(
            run,
            calls=calls,
            replies=KafkaReader(kafka, pattern=topic_pattern(REPLIES, kafka.topic_prefix), client_id=_CLIENT),
            publisher=KafkaPublisher(kafka, client_id=_CLIENT),
            topic_prefix=kafka.topic_prefix,
            clock=system_clock,
            steady=steady_clock,
            store=PayloadStore(payloads) if payloads is not None else None,
            inline_bytes=inline_bytes,
        )


def flower_participant(
    run: str,
    node: ClientNode,
    kafka: KafkaSettings,
    *,
    region: str,
    payloads: str | None = None,
    inline_bytes: int = 524_288,
    memory: Path | None = None,
    life: int | None = None,
) -> FlowerParticipant:
    """Connect a participant.

    Args:
        run: its name.
        node: the client app.
        kafka: the broker's settings.
        region: whose topic it sends by.
        payloads: as the server app's grid has it.
        inline_bytes: up to which a content travels in the message.
        memory: folder of what outlives it; None for none.
        life: number of this life; None takes the clock's milliseconds.

    Raises:
        BrokerUnavailableError: nobody answers.
        BrokenMemoryError: what it remembers is damaged.
    """
    prefix = kafka.topic_prefix
    ensure_topics(kafka, [region], (CALLS, REPLIES))
    with KafkaReader(kafka, topics=[topic_name(REPLIES, prefix, region)], client_id=_CLIENT) as replies:
        return FlowerParticipant(
            run,
            node,
            region=region,
            calls=KafkaReader(kafka, topics=[topic_name(CALLS, prefix)], client_id=_CLIENT),
            replies=replies,
            publisher=KafkaPublisher(kafka, client_id=_CLIENT),
            topic_prefix=prefix,
            clock=system_clock,
            store=PayloadStore(payloads) if payloads is not None else None,
            inline_bytes=inline_bytes,
            memory=AnswerMemory(memory, run, node.name) if memory is not None else None,
            life=life,
        )
