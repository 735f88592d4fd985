"""The load: tasks, and what else a real stream has, and writes of replicated records, sent by a thread of their own.

What the broker has acknowledged is told, and nothing else: that, and only that, must not be lost.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from thalweg.chaos.demand import ChaosMessage
from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.errors import NotAcknowledgedError
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord, Publisher
from thalweg.streams.contract.topics import REQUESTS, STATE, topic_name
from thalweg.sync.clock import Clock

PUBLISH_TIMEOUT_MS: Final = 4_000
WRITE_EVERY_S: Final = 0.5
STEP_S: Final = 0.05
FOLLOWED_UP_S: Final = 10.0
"""What is due so soon after the last task, and about earlier ones, is sent with it: what was held is released."""
_ENCODER: Final = msgspec.json.Encoder()

Acknowledged = tuple[str, str]
"""Table of the evidence, and key."""


@dataclass(slots=True, kw_only=True)
class ChaosLoad:
    """Sends until it is told to finish."""

    kafka: KafkaSettings
    messages: Iterator[ChaosMessage]
    regions: Sequence[str]
    clock: Clock
    held: bool = False
    """While true, what is due waits, and goes out late, in its order."""
    _unsent: list[tuple[OutgoingRecord, Sequence[Acknowledged]]] = field(default_factory=list)
    _told: deque[Acknowledged] = field(default_factory=deque)
    _writes: int = 0
    _finishing: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Ask for nothing more; what belongs to what was asked for is sent on until it is acknowledged."""
        self._finishing.set()

    def is_over(self) -> bool:
        """Say whether all that was made is acknowledged."""
        return self._thread is not None and not self._thread.is_alive()

    def acknowledged(self) -> list[Acknowledged]:
        """Take out what was acknowledged since the last call."""
        return [self._told.popleft() for _ in range(len(self._told))]

    def _run(self) -> None:
        with KafkaPublisher(self.kafka, timeout_ms=PUBLISH_TIMEOUT_MS, client_id="thalweg-chaos") as publisher:
            began, upcoming, is_last = time.monotonic(), next(self.messages), False
            while not is_last or self._unsent:
                now_s, is_over = time.monotonic() - began, is_last
                is_last = self._finishing.is_set()
                while not is_over and upcoming.due_s <= now_s + (FOLLOWED_UP_S if is_last else 0.0):
                    if not (is_last and upcoming.begins):
                        self._unsent.append(self._request(upcoming))
                    upcoming = next(self.messages)
                if not is_last and now_s >= self._writes * WRITE_EVERY_S:
                    self._unsent.append(self._write())
                if not self.held:
                    self._send(publisher)
                time.sleep(STEP_S)

    def _send(self, publisher: Publisher) -> None:
        """Publish all that waits; where that fails, all of it again: what was written is recognised."""
        with contextlib.suppress(NotAcknowledgedError):
            publisher.publish([record for record, _ in self._unsent])
            self._told.extend(told for _, all_told in self._unsent for told in all_told)
            self._unsent.clear()

    def _request(self, message: ChaosMessage) -> tuple[OutgoingRecord, Sequence[Acknowledged]]:
        topic = topic_name(REQUESTS, self.kafka.topic_prefix)
        record = OutgoingRecord(topic=topic, key=message.task_id.encode(), value=message.value(self.clock()))
        return record, [(table, message.task_id) for table in message.tables]

    def _write(self) -> tuple[OutgoingRecord, Sequence[Acknowledged]]:
        self._writes += 1
        key = f"chaos/{self._writes:06d}"
        region = self.regions[self._writes % len(self.regions)]
        value = _ENCODER.encode({"key": key, "value": {"number": self._writes}, "observed_at": self.clock()})
        topic = topic_name(STATE, self.kafka.topic_prefix, region)
        return OutgoingRecord(topic=topic, key=key.encode(), value=value), [("written", key)]
