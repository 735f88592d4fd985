"""A producer that cannot send any more is closed all the same."""

import threading
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError, NotEnoughReplicasError

from thalweg.streams.broker.connection import close_producer, tell_retries
from thalweg.streams.broker.errors import NotAcknowledgedError
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord


class StuckProducer:
    """What `kafka-python`'s producer does while its broker is away: it waits, raises, and stays open."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._sender = self

    def send(self, *_: object, **__: object) -> "StuckProducer":
        return self

    def flush(self, timeout: float) -> None:
        raise KafkaTimeoutError("Timeout waiting for future")

    def close(self, timeout: float) -> None:
        self.flush(timeout)

    def force_close(self) -> None:
        self.told.append("force_close")

    def _dispatch_error(self, *_: object) -> None:
        self.told.append("judged")

    def join(self, timeout: float) -> None:
        self.told.append("join")


def test_its_thread_is_told_to_end() -> None:
    stuck: Any = StuckProducer()
    close_producer(stuck, 0)
    assert stuck.told == ["force_close", "join"]


def test_a_publisher_says_that_nothing_was_acknowledged_and_begins_anew() -> None:
    publisher: Any = KafkaPublisher.__new__(KafkaPublisher)
    publisher._connecting, publisher._timeout_ms, publisher._keeps_topics = threading.Lock(), 10, False
    publisher._producer = StuckProducer()
    with pytest.raises(NotAcknowledgedError, match="Timeout waiting"):
        publisher.publish([OutgoingRecord(topic="t", key=None, value=b"1")])
    assert publisher._producer is None


def test_what_is_not_acknowledged_says_why_the_broker_did_not_take_it() -> None:
    publisher: Any = KafkaPublisher.__new__(KafkaPublisher)
    publisher._connecting, publisher._timeout_ms, publisher._keeps_topics = threading.Lock(), 10, False
    publisher._producer = stuck = StuckProducer()
    tell_retries(publisher._producer, publisher._hear)
    stuck.flush = lambda timeout: stuck._dispatch_error("batch", NotEnoughReplicasError(), "answer")  # type: ignore[method-assign]
    stuck.succeeded, stuck.exception = lambda: False, KafkaTimeoutError("expired")  # type: ignore[attr-defined]
    with pytest.raises(NotAcknowledgedError, match=r"expired.*last word: NotEnoughReplicasError \(.*in-sync replicas"):
        publisher.publish([OutgoingRecord(topic="t", key=None, value=b"1")])
    assert "judged" in stuck.told, "kafka-python's own judgement stays"
    heard: list[BaseException] = []
    tell_retries(publisher._producer or stuck, heard.append)
    stuck._dispatch_error("batch", KafkaTimeoutError("expired"), None)
    assert heard == [], "the end of its time is no reason"
