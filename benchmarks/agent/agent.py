"""`bench agent`: what the regional side bears: the fence, publishing with all acknowledgements, and a whole agent.

The agent is `thalweg agent` as it is, one process for all regions, with the simulating runner; this process plays the
place job and the reader of its reports. Every task must be reported accepted, running and succeeded, each once.
"""

import contextlib
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import psutil

from thalweg.agent.figures import load_figures
from thalweg.agent.fleet import RegionFleet, simulated_fleet
from thalweg.conf.settings import KafkaSettings
from thalweg.processes.children import Child, ProcessSpec
from thalweg.scheduling.ids import TaskId
from thalweg.stack.broker import Broker
from thalweg.stack.machine import describe
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.consume import KafkaReader
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord, outgoing
from thalweg.streams.contract.envelope import Envelope
from thalweg.streams.contract.messages import AssignmentEvent, NodeShare, StatusEvent
from thalweg.streams.contract.topics import ASSIGNMENTS, STATUS, topic_pattern
from thalweg.streams.placement.fence import Fence

TICK_S: Final = 0.02
GPU_MILLI: Final = 1
"""A thousandth of a GPU each: what is measured is the agent, not its capacity."""

EXPECTED_S: Final = 1.0
IDLE_S: Final = 5.0
WARM_UP_ROUNDS: Final = 10
LIMIT_S: Final = 180.0
REPORTS: Final = ("accepted", "running", "succeeded")
_STATUS: Final = msgspec.json.Decoder(StatusEvent)


def agent(
    *,
    rate: float = 1_000,
    seconds: float = 30,
    backlog: int = 20_000,
    regions: int = 8,
    fence_events: int = 50_000,
    rounds: int = 30,
    bootstrap: str = "",
) -> dict[str, Any]:
    """Measure all three.

    Args:
        rate: assignments a second of the steady run.
        seconds: its length.
        backlog: assignments that lie ready at once after it.
        regions: hosted by the one agent.
        fence_events: events judged by a fence on this disk.
        rounds: how often 200 and 2,000 events are published at once.
        bootstrap: a broker that runs already; empty starts one.
    """
    document: dict[str, Any] = {
        "name": "agent",
        "machine": describe(),
        "parameters": {"rate_per_s": rate, "seconds": seconds, "backlog_tasks": backlog, "regions": regions}
        | {"fence_events": fence_events, "rounds": rounds, "task_seconds": EXPECTED_S},
    }
    with tempfile.TemporaryDirectory(prefix="bench-agent-") as name, contextlib.ExitStack() as open_:
        folder = Path(name)
        kafka = KafkaSettings(
            bootstrap_servers=bootstrap or open_.enter_context(Broker(folder / "broker")).bootstrap,
            topic_prefix=f"bench-agent-{time.time_ns()}",
        )
        figures = load_figures()
        fleets = [simulated_fleet(region, figures) for region in figures.regions[:regions]]
        ensure_topics(kafka, [fleet.region for fleet in fleets])
        events = Events(fleets)
        document["fence"] = _fence(folder, events, fence_events)
        publisher = open_.enter_context(contextlib.closing(KafkaPublisher(kafka, client_id="bench-agent")))
        # Published before the agent is there: its regions' own backlog begins after what these leave on the topics.
        document["publish"] = {
            f"{count}_events": _publish(publisher, kafka, events, count, rounds) for count in (200, 2_000)
        }
        before = events.made
        with _running(kafka, fleets, folder) as process, Reports(kafka) as reports:
            reports.wait(before - fence_events, LIMIT_S)
            document["idle"] = _idle(process)
            document["steady"] = _steady(kafka, publisher, events, reports, process, rate, seconds)
            document["backlog"] = _backlog(kafka, publisher, events, reports, process, backlog)
            document["rss_mb"] = round(process.memory_info().rss / 1e6, 1)
            sent = events.made - fence_events
            document["reports"] = reports.judged(sent)
    return document


class Events:
    """Assignment events, dealt out to regions, nodes and GPUs in turn."""

    def __init__(self, fleets: Sequence[RegionFleet]) -> None:
        self._places = [
            (fleet.region, node.node_id, device)
            for nodes in zip(*(fleet.nodes.values() for fleet in fleets), strict=True)
            for fleet, node in zip(fleets, nodes, strict=True)
            for device in range(node.gpus)
        ]
        self.made = 0

    def next(self, count: int) -> list[AssignmentEvent]:
        """Make some, decided now."""
        now_ms = time.time_ns() // 1_000_000
        made = []
        for number in range(self.made, self.made + count):
            region, node_id, device = self._places[number % len(self._places)]
            share = NodeShare(node_id=node_id, gpu_milli=GPU_MILLI, devices=[device])
            made.append(
                AssignmentEvent(
                    event_id=f"event-{number}",
                    type="assign",
                    task_id=TaskId(f"task-{number}"),
                    epoch=1,
                    region=region,
                    nodes=[share],
                    expected_s=EXPECTED_S,
                    decided_at=now_ms,
                )
            )
        self.made += count
        return made


def _records(kafka: KafkaSettings, events: Sequence[AssignmentEvent]) -> list[OutgoingRecord]:
    return [
        outgoing(
            ASSIGNMENTS,
            kafka.topic_prefix,
            event,
            key=event.task_id,
            region=event.region,
            event=Envelope(event_id=event.event_id, source="/bench", event_type="assign", time_ms=event.decided_at),
        )
        for event in events
    ]


def _fence(folder: Path, events: Events, count: int) -> dict[str, Any]:
    """Judge events in transactions of 50, each of them flushed to the disk."""
    fence = Fence(folder / "fence.sqlite")
    judged = events.next(count)
    started = time.perf_counter()
    for first in range(0, count, 50):
        with fence.transaction():
            for offset, event in enumerate(judged[first : first + 50], start=first):
                fence.admit(event)
                fence.move_on("topic", 0, offset + 1)
    seconds = time.perf_counter() - started
    fence.close()
    return {"events_per_transaction": 50, "us_per_event": round(seconds / count * 1e6, 1)}


def _publish(
    publisher: KafkaPublisher, kafka: KafkaSettings, events: Events, count: int, rounds: int
) -> dict[str, float]:
    """Publish so many at once, encoding included, until all are acknowledged; the first rounds warm the broker up."""
    took_ms = []
    for _ in range(WARM_UP_ROUNDS + rounds):
        made = events.next(count)
        started = time.perf_counter()
        publisher.publish(_records(kafka, made))
        took_ms.append((time.perf_counter() - started) * 1e3)
    return _quantiles(took_ms[WARM_UP_ROUNDS:])


@contextlib.contextmanager
def _running(kafka: KafkaSettings, fleets: Sequence[RegionFleet], folder: Path) -> Iterator[psutil.Process]:
    argv = [
        sys.executable,
        "-P",
        "-m",
        "thalweg.cli.main",
        "agent",
        "--state",
        str(folder / "agent"),
        "--time-scale",
        "1",
    ]
    for fleet in fleets:
        argv += ["--region", fleet.region]
    for item in (f"kafka.bootstrap_servers={kafka.bootstrap_servers}", f"kafka.topic_prefix={kafka.topic_prefix}"):
        argv += ["--set", item]
    child = Child(ProcessSpec(name="agent", argv=tuple(argv), announces_ready=True), folder / "agent.log")
    try:
        child.wait_ready()
        yield psutil.Process(child.pid)
    finally:
        child.stop()


class Reports:
    """Reads what the agent reports, on a thread of its own, with the clock at arrival."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._reader = KafkaReader(kafka, pattern=topic_pattern(STATUS, kafka.topic_prefix), client_id="bench-agent")
        self._seen: Counter[tuple[str, str]] = Counter()
        self.accepted_s: dict[str, float] = {}
        self.ended: int = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        while not self._stopping.is_set():
            records = self._reader.poll(20)
            now_s = time.time()
            for record in records:
                status = _STATUS.decode(record.value or b"")
                if status.task_id is None or status.type == "progress":
                    continue
                self._seen[status.task_id, status.type] += 1
                if status.type == "accepted":
                    self.accepted_s.setdefault(status.task_id, now_s)
                elif status.type == "succeeded":
                    self.ended += 1

    def wait(self, ended: int, seconds: float) -> None:
        """Wait until so many tasks have ended in all.

        Raises:
            RuntimeError: not in time.
        """
        limit = time.monotonic() + seconds
        while self.ended < ended:
            if time.monotonic() > limit:
                raise RuntimeError(f"{self.ended} of {ended} tasks ended within {seconds:g} s")
            time.sleep(0.01)

    def judged(self, tasks: int) -> dict[str, int]:
        """Count what is missing and what came twice."""
        return {
            "tasks": tasks,
            "missing": len(REPORTS) * tasks - sum(1 for _, kind in self._seen if kind in REPORTS),
            "twice": sum(count > 1 for count in self._seen.values()),
            "others": sum(1 for _, kind in self._seen if kind not in REPORTS),
        }

    def __enter__(self) -> "Reports":
        """Begin to read."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stopping.set()
        self._thread.join(10)
        self._reader.close()


def _idle(process: psutil.Process) -> dict[str, float]:
    before = _cpu_s(process)
    time.sleep(IDLE_S)
    return {"cpu_percent_of_a_core": round((_cpu_s(process) - before) / IDLE_S * 100, 1)}


def _steady(
    kafka: KafkaSettings,
    publisher: KafkaPublisher,
    events: Events,
    reports: Reports,
    process: psutil.Process,
    rate: float,
    seconds: float,
) -> dict[str, Any]:
    """Send at a rate; time counts from before the send to the reader of the report."""
    ended, cpu_before_s = reports.ended, _cpu_s(process)
    sent_s: dict[str, float] = {}
    started, total = time.monotonic(), int(rate * seconds)
    while len(sent_s) < total:
        due = min(total, int((time.monotonic() - started) * rate) + 1) - len(sent_s)
        made = events.next(max(due, 0))
        now_s = time.time()
        publisher.publish(_records(kafka, made))
        sent_s |= {event.task_id: now_s for event in made}
        time.sleep(TICK_S)
    sending_s = time.monotonic() - started
    reports.wait(ended + total, LIMIT_S)
    cpu_s = _cpu_s(process) - cpu_before_s
    return {
        "sent_per_s": round(total / sending_s, 1),
        "until_accepted": _quantiles([(reports.accepted_s[task] - sent) * 1e3 for task, sent in sent_s.items()]),
        "agent_cpu_ms_per_task": round(cpu_s / total * 1e3, 3),
        "agent_cpu_percent_of_a_core": round(cpu_s / (time.monotonic() - started) * 100, 1),
    }


def _backlog(
    kafka: KafkaSettings,
    publisher: KafkaPublisher,
    events: Events,
    reports: Reports,
    process: psutil.Process,
    count: int,
) -> dict[str, Any]:
    """Let assignments pile up while the agent stands still, then time it until all have run."""
    ended = reports.ended
    process.suspend()
    try:
        for first in range(0, count, 2_000):
            publisher.publish(_records(kafka, events.next(min(2_000, count - first))))
        started = time.monotonic()
    finally:
        process.resume()
    reports.wait(ended + count, LIMIT_S)
    took_s = time.monotonic() - started
    # Each runs for a second, more or less a fifth: the last one's time is not the agent's.
    return {"tasks": count, "seconds": round(took_s, 2), "tasks_per_s": round(count / max(took_s - EXPECTED_S, 0.1))}


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _quantiles(values_ms: Sequence[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(values_ms, (50, 95, 99))
    return {
        "p50_ms": round(p50, 1),
        "p95_ms": round(p95, 1),
        "p99_ms": round(p99, 1),
        "max_ms": round(max(values_ms), 1),
    }
