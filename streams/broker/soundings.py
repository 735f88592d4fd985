"""Look where topics end now: what a sounding (thalweg.scheduling.liveness.hearing) is made of."""

import re
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from thalweg.conf.settings import KafkaSettings
from thalweg.scheduling.liveness.hearing import Ends
from thalweg.streams.broker.connection import connection_options
from thalweg.streams.broker.errors import BrokerUnavailableError

TIMEOUT_MS: Final = 5_000
"""A look that takes longer says nothing of now; the next one is tried instead."""


class TopicEnds:
    """Asks the broker for the ends of all topics of a pattern. For one thread at a time."""

    def __init__(self, kafka: KafkaSettings, pattern: str) -> None:
        """Prepare; the connection is made by the first look.

        Args:
            kafka: the broker's settings.
            pattern: regular expression for the whole names of the topics.
        """
        self._kafka = kafka
        self._pattern = re.compile(pattern)
        self._consumer: KafkaConsumer | None = None

    def look(self) -> Ends:
        """Return where each partition ends; None for one that has no leader now, so that nobody can write to it.

        Raises:
            BrokerUnavailableError: the broker does not answer.
        """
        try:
            if self._consumer is None:
                self._consumer = KafkaConsumer(
                    group_id=None,
                    enable_auto_commit=False,
                    allow_auto_create_topics=False,
                    metrics_enabled=False,
                    **connection_options(self._kafka),
                )
            names = sorted(name for name in self._consumer.topics() if self._pattern.fullmatch(name))
            cluster: Any = self._consumer._cluster
            led = {name: cluster.available_partitions_for_topic(name) or set() for name in names}
            places = [TopicPartition(name, number) for name in names for number in sorted(led[name])]
            found = self._consumer.end_offsets(places, timeout_ms=TIMEOUT_MS) if places else {}
            return {
                name: {
                    number: found.get(TopicPartition(name, number))
                    for number in sorted(self._consumer.partitions_for_topic(name) or ())
                }
                for name in names
            }
        except (KafkaError, OSError) as error:
            self.close()  # a client that timed out may answer the next question with this one's answer
            raise BrokerUnavailableError(self._kafka.bootstrap_servers, error) from error

    def close(self) -> None:
        """Give up the connection."""
        if self._consumer is not None:
            self._consumer.close(autocommit=False, timeout_ms=1_000)
            self._consumer = None
