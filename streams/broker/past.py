"""Read what topics held at one moment, from chosen positions up to where they ended then."""

from collections.abc import Iterator, Mapping
from typing import Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.connection import consumer_options
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.broker.errors import BrokerUnavailableError

POLL_MS: Final = 1_000
MOST_RECORDS: Final = 5_000
"""Of one poll."""
SILENT_POLLS: Final = 10
"""So many polls in a row without a record or a step forward, and the broker counts as away."""

Offsets = Mapping[tuple[str, int], int]


class KafkaPast:
    """Connects for each question: it is asked once in a start."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    def since(self, ends: Offsets, moment_ms: int) -> Offsets:
        """Say where what came at a moment or later begins, of each partition; its end where nothing did.

        Raises:
            BrokerUnavailableError: nobody answers.
        """
        consumer = self._consumer()
        try:
            asked = {TopicPartition(*place): max(moment_ms, 0) for place in ends}
            found = consumer.offsets_for_times(asked) if asked else {}
        except (KafkaError, OSError) as error:
            raise BrokerUnavailableError(self._kafka.bootstrap_servers, error) from error
        finally:
            consumer.close()
        return {
            place: ends[place] if (hit := found.get(TopicPartition(*place))) is None else hit.offset for place in ends
        }

    def read(self, starts: Offsets, ends: Offsets) -> Iterator[IncomingRecord]:
        """Read what lies between, in order within a partition; what is not kept any more is left out.

        Raises:
            BrokerUnavailableError: nobody answers.
        """
        wanted = {TopicPartition(*place): end for place, end in ends.items() if starts.get(place, 0) < end}
        if not wanted:
            return
        consumer = self._consumer()
        try:
            consumer.assign(sorted(wanted))
            for place in wanted:
                consumer.seek(place, starts.get((place.topic, place.partition), 0))
            silent, before = 0, -1
            while left := [place for place, end in wanted.items() if consumer.position(place) < end]:
                polled = consumer.poll(POLL_MS, max_records=MOST_RECORDS)
                for place, records in polled.items():
                    for record in records:
                        if record.offset < wanted[place]:
                            yield IncomingRecord.of(record)
                at = sum(consumer.position(place) for place in left)
                silent, before = (0, at) if at != before else (silent + 1, before)
                if silent > SILENT_POLLS:
                    raise BrokerUnavailableError(self._kafka.bootstrap_servers, TimeoutError("no records come"))
        except (KafkaError, OSError) as error:
            raise BrokerUnavailableError(self._kafka.bootstrap_servers, error) from error
        finally:
            consumer.close()

    def _consumer(self) -> KafkaConsumer:
        try:
            return KafkaConsumer(
                client_id="thalweg-past",
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                allow_auto_create_topics=False,
                metrics_enabled=False,
                **consumer_options(self._kafka),
            )
        except (KafkaError, OSError) as error:
            raise BrokerUnavailableError(self._kafka.bootstrap_servers, error) from error
