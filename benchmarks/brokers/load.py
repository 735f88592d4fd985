"""The load of `bench brokers`: who asks and takes only the brokers' word for it, and regions that beat and listen."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
from kafka import KafkaConsumer

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.connection import consumer_options
from thalweg.streams.broker.errors import BrokerUnavailableError, NotAcknowledgedError
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord
from thalweg.streams.contract.topics import ASSIGNMENTS, REQUESTS, STATUS, topic_name

PUBLISH_MS: Final = 4_000
"""A publication that is not acknowledged in this time is made again, with what has become due meanwhile."""

_TICK_S: Final = 0.02
_BEAT_S: Final = 1.0
_ENCODER: Final = msgspec.json.Encoder()


class Event(msgspec.Struct):
    """What a region needs to read of an assignment."""

    type: str
    event_id: str
    task_id: str
    epoch: int


@dataclass(slots=True, kw_only=True)
class Book:
    """What the load has seen. One thread writes each part."""

    due_at: dict[str, float] = field(default_factory=dict)
    """When each task was to be asked for."""
    acknowledged_at: dict[str, float] = field(default_factory=dict)
    assigned_at: dict[str, float] = field(default_factory=dict)
    """When a region first heard of it."""
    events: dict[str, Event] = field(default_factory=dict)
    """By id: a repeated one is the same to a region."""
    repeated: int = 0
    refusals: list[str] = field(default_factory=list)
    """What a publication was told that was not acknowledged."""


class Load:
    """Asks at a fixed rate, for the length of a ``with``."""

    def __init__(self, kafka: KafkaSettings, regions: Sequence[str], rate_per_s: float) -> None:
        """Prepare; nothing is sent yet.

        Args:
            kafka: the brokers.
            regions: beat and listen.
            rate_per_s: tasks of one GPU that become due.
        """
        self.book = Book()
        self._kafka = kafka
        self._regions = regions
        self._rate_per_s = rate_per_s
        self._asking, self._stop = threading.Event(), threading.Event()
        self._asking.set()
        self._asker, *self._others = [
            threading.Thread(target=target, daemon=True) for target in (self._ask, self._beat, self._listen)
        ]

    def stop_asking(self) -> None:
        """Ask for nothing new; return when all that was due is acknowledged."""
        self._asking.clear()
        self._asker.join()

    def __enter__(self) -> "Load":
        for thread in (self._asker, *self._others):
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._asking.clear()
        for thread in (self._asker, *self._others):
            thread.join(30)

    # Each is a thread

    def _ask(self) -> None:
        topic, begin, made = topic_name(REQUESTS, self._kafka.topic_prefix), time.time(), 0
        open_: list[OutgoingRecord] = []
        with KafkaPublisher(self._kafka, timeout_ms=PUBLISH_MS, client_id="bench-ask") as publisher:
            while not self._stop.is_set() and (open_ or self._asking.is_set()):
                while self._asking.is_set() and begin + made / self._rate_per_s <= time.time():
                    task_id = f"task-{made}"
                    self.book.due_at[task_id] = begin + made / self._rate_per_s
                    request = {"task_id": task_id, "per_worker": {"gpus": 1}, "observed_at": int(time.time() * 1000)}
                    open_.append(OutgoingRecord(topic=topic, key=task_id.encode(), value=_ENCODER.encode(request)))
                    made += 1
                try:
                    publisher.publish(open_)
                except NotAcknowledgedError as error:
                    self.book.refusals.append(str(error))
                    continue
                now = time.time()
                for record in open_:
                    assert record.key is not None
                    self.book.acknowledged_at[record.key.decode()] = now
                open_ = []
                time.sleep(_TICK_S)

    def _beat(self) -> None:
        prefix = self._kafka.topic_prefix
        with KafkaPublisher(self._kafka, timeout_ms=PUBLISH_MS, client_id="bench-beat") as publisher:
            while not self._stop.wait(_BEAT_S):
                beats = [
                    OutgoingRecord(
                        topic=topic_name(STATUS, prefix, region),
                        key=region.encode(),
                        value=_ENCODER.encode({"type": "heartbeat", "region": region}),
                    )
                    for region in self._regions
                ]
                try:
                    publisher.publish(beats)
                except NotAcknowledgedError:
                    continue  # the next beat says the same

    def _listen(self) -> None:
        topics = [topic_name(ASSIGNMENTS, self._kafka.topic_prefix, region) for region in self._regions]
        consumer = KafkaConsumer(*topics, auto_offset_reset="earliest", **consumer_options(self._kafka))
        decode = msgspec.json.Decoder(Event).decode
        while not self._stop.is_set():
            try:
                found = consumer.poll(timeout_ms=50)
            except (BrokerUnavailableError, OSError):
                continue
            now = time.time()
            for records in found.values():
                for record in records:
                    event = decode(record.value)
                    self.book.repeated += event.event_id in self.book.events
                    self.book.events[event.event_id] = event
                    if event.type == "assign":
                        self.book.assigned_at.setdefault(event.task_id, now)
        consumer.close()
