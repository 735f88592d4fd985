"""A bystander that reads what flows: assignments, reports, refusals. It knows only what the topics say.

The demo draws from it and counts with it, independently of the jobs and of the agents.
"""

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from thalweg.conf.settings import KafkaSettings
from thalweg.streams.broker.consume import IncomingRecord, KafkaReader
from thalweg.streams.contract.decode import UndecodableError, decoded
from thalweg.streams.contract.messages import AssignmentEvent, StatusEvent
from thalweg.streams.contract.topics import (
    ASSIGNMENTS,
    DEADLETTER,
    REQUESTS,
    STATUS,
    region_of_topic,
    topic_name,
    topic_pattern,
)
from thalweg.sync.clock import Clock

_EVENT: Final = msgspec.json.Decoder(AssignmentEvent)
_STATUS: Final = msgspec.json.Decoder(StatusEvent)
_CATCH_UP_LIMIT_S: Final = 60.0
_ENDS: Final = frozenset({"succeeded", "failed", "evicted", "revoked"})


@dataclass(slots=True, kw_only=True)
class RegionView:
    """What the topics say of one region."""

    held: dict[tuple[str, int], float] = field(default_factory=dict)
    """GPUs by (task, epoch) that were assigned and have not ended."""
    running: set[tuple[str, int]] = field(default_factory=set)
    heard_s: float = 0.0
    records: int = 0
    """Records on its assignments topic."""

    @property
    def gpus(self) -> float:
        """GPUs taken."""
        return sum(self.held.values())


@dataclass(slots=True, kw_only=True)
class FirstAssignment:
    """How long a task took from its request to its region."""

    task_id: str
    latency_ms: float
    epoch: int


class _Named(msgspec.Struct):
    """All that is asked of somebody's request: whose it is."""

    task_id: str


_NAMED: Final = msgspec.json.Decoder(_Named)


def records_until_now(
    kafka: KafkaSettings, *, topics: Iterable[str] = (), pattern: str | None = None
) -> Iterator[IncomingRecord]:
    """Read topics from their beginning to where they end when this begins; a broker that went away ends it early."""
    with KafkaReader(kafka, topics=topics, pattern=pattern, client_id="thalweg-watch") as reader:
        ends = {place: end for place, end in reader.end_offsets().items() if end}
        deadline = time.monotonic() + _CATCH_UP_LIMIT_S
        while ends and time.monotonic() < deadline:
            yield from reader.poll(500)
            # Positions, not the records' offsets: the last offset may be a transaction's marker, which nobody gets.
            ends = {place: end for place, end in ends.items() if reader.position(*place) < end}


def requested_tasks(kafka: KafkaSettings) -> set[str]:
    """Ids of all tasks that the requests topic speaks of, whoever sent them."""
    found = set()
    for record in records_until_now(kafka, topics=[topic_name(REQUESTS, kafka.topic_prefix)]):
        with contextlib.suppress(UndecodableError):
            found.add(decoded(_NAMED, record.value).task_id)
    return found


class Watcher:
    """Follows the topics on a thread of its own; `lock` guards everything it knows."""

    def __init__(self, kafka: KafkaSettings, clock: Clock) -> None:
        self.lock = threading.Lock()
        self.regions: dict[str, RegionView] = {}
        self.event_ids: Counter[str] = Counter()
        self.reports: Counter[str] = Counter()
        self.refused_requests: list[tuple[str, str]] = []
        """(key, reason) of dead letters that were requests."""
        self.latencies: list[FirstAssignment] = []
        self.recent: deque[tuple[float, float]] = deque(maxlen=4_000)
        """(when, latency in ms) of the newest first assignments."""
        self.first_assignment_s: float | None = None
        self.records = 0
        self._seen_tasks: set[str] = set()
        self._kafka = kafka
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        prefix = kafka.topic_prefix
        self._deadletter = topic_name(DEADLETTER, prefix)
        patterns = (
            topic_pattern(ASSIGNMENTS, prefix),
            topic_pattern(STATUS, prefix),
            self._deadletter.replace(".", r"\."),
        )
        self._reader = KafkaReader(kafka, pattern="|".join(patterns), client_id="thalweg-watch")

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join(timeout=10)
        self._reader.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            records = self._reader.poll(100)
            now_ms = self._clock()
            if records:
                with self.lock:
                    for record in records:
                        self._note(record, now_ms)

    def _note(self, record: IncomingRecord, now_ms: int) -> None:
        self.records += 1
        prefix = self._kafka.topic_prefix
        if record.topic == self._deadletter:
            headers = dict(record.headers)
            if headers.get("topic") == topic_name(REQUESTS, prefix).encode():
                key = (record.key or b"").decode(errors="replace")
                self.refused_requests.append((key, headers.get("reason", b"").decode(errors="replace")))
        elif record.topic.startswith(f"{prefix}.{ASSIGNMENTS.topic}."):
            region = self._region(region_of_topic(record.topic, ASSIGNMENTS, prefix))
            region.records += 1
            # What is no message of ours is for the jobs and agents to refuse; the bystander goes on.
            with contextlib.suppress(UndecodableError):
                self._note_assignment(decoded(_EVENT, record.value), region, now_ms)
        else:
            name = region_of_topic(record.topic, STATUS, prefix)
            with contextlib.suppress(UndecodableError):
                self._note_report(decoded(_STATUS, record.value), name)

    def _region(self, name: str) -> RegionView:
        return self.regions.setdefault(name, RegionView())

    def _note_assignment(self, event: AssignmentEvent, region: RegionView, now_ms: int) -> None:
        self.event_ids[event.event_id] += 1
        if event.type == "revoke" or self.event_ids[event.event_id] > 1:
            return
        region.held[event.task_id, event.epoch] = sum(share.gpus + share.gpu_milli / 1000 for share in event.nodes)
        if self.first_assignment_s is None:
            self.first_assignment_s = time.monotonic()
        if event.task_id not in self._seen_tasks and event.requested_at is not None:
            self._seen_tasks.add(event.task_id)
            latency_ms = float(now_ms - event.requested_at)
            self.latencies.append(FirstAssignment(task_id=event.task_id, latency_ms=latency_ms, epoch=event.epoch))
            self.recent.append((time.monotonic(), latency_ms))

    def _note_report(self, event: StatusEvent, name: str) -> None:
        self.reports[event.type] += 1
        if event.type == "heartbeat" and name not in self.regions:
            return  # not a region with assignments: the place job itself
        region = self._region(name)
        region.heard_s = time.monotonic()
        if event.task_id is None:
            return
        key = (event.task_id, event.epoch)
        if event.type == "running":
            region.running.add(key)
        elif event.type in _ENDS:
            region.held.pop(key, None)
            region.running.discard(key)
