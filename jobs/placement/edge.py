"""What `place` holds of the broker: who publishes, who reads ahead, and by what it knows that regions are silent."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

import pyarrow as pa

from thalweg.conf.settings import KafkaSettings, Settings
from thalweg.jobs.placement.heartbeat import CONTROL_REGION, Heartbeats
from thalweg.scheduling.liveness.hearing import Ends, Hearing, Sounding
from thalweg.streams.broker.admin import ensure_topics, make_again, raise_limits
from thalweg.streams.broker.publish import KafkaPublisher
from thalweg.streams.broker.range_reader import RangeReader, Ranges
from thalweg.streams.broker.soundings import TopicEnds
from thalweg.streams.contract.topics import ASSIGNMENTS, CONTROL, REQUESTS, STATUS, topic_name, topic_pattern
from thalweg.sync.clock import steady_clock


def input_pattern(prefix: str) -> str:
    """Topics that the job reads: the requests, the orders, and every region's status."""
    named = "|".join(re.escape(topic_name(contract, prefix)) for contract in (REQUESTS, CONTROL))
    return f"{named}|{topic_pattern(STATUS, prefix)}"


def make_topics(settings: Settings) -> None:
    """Make the topics that are missing, and raise the limits of those that an earlier version made."""
    ensure_topics(settings.kafka, [CONTROL_REGION])
    raise_limits(settings.kafka)


def keep_inputs(kafka: KafkaSettings, seen: Ends) -> None:
    """Make the topics of requests and orders again where somebody has deleted them; regions keep their own."""
    gone = {topic_name(contract, kafka.topic_prefix) for contract in (REQUESTS, CONTROL)} - seen.keys()
    if gone:
        make_again(kafka, gone)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerEdge:
    """One life's connections; `close` is called at the end of what runs beside the stream."""

    publisher: KafkaPublisher
    reader: RangeReader | None
    hearing: Hearing
    beats: Heartbeats

    @classmethod
    def open(cls, settings: Settings, clock: Callable[[], int], life: str) -> Self:
        """Connect.

        Args:
            settings: everything.
            clock: the wall clock.
            life: id of this life of the job, which its heartbeats carry.
        """
        place, prefix = settings.place, settings.kafka.topic_prefix
        publisher = KafkaPublisher(
            settings.kafka, timeout_ms=place.publish_timeout_ms, client_id="thalweg-place", keeps_topics=True
        )
        reader = RangeReader(settings.kafka) if place.read_ahead else None
        ends = TopicEnds(settings.kafka, f"{input_pattern(prefix)}|{topic_pattern(ASSIGNMENTS, prefix)}")
        hearing = Hearing(
            timeout_ms=place.heartbeat_timeout_ms,
            life=life,
            start=Sounding(number=0, made_ms=steady_clock(), ends=ends.look()),
        )
        beats = Heartbeats(
            hearing=hearing,
            ends=ends,
            publisher=publisher,
            prefix=prefix,
            clock=clock,
            keep=partial(keep_inputs, settings.kafka),
        )
        return cls(publisher=publisher, reader=reader, hearing=hearing, beats=beats)

    @property
    def ahead(self) -> Callable[[Ranges, float], pa.Table | None] | None:
        """Who has a batch's records before they are asked for; None where every batch is read through Spark."""
        return None if self.reader is None else self.reader.read

    def close_reader(self) -> None:
        """Give up the connection of who reads ahead."""
        if self.reader is not None:
            self.reader.close()
