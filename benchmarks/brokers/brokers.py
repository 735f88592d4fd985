"""`bench brokers`: three brokers that keep copies, of which one and then another is killed while tasks are placed.

Each of the three is a broker and a controller, a process of its own; topics have the copies that the settings say. The
job is the real one (`python -m thalweg.jobs.place`). At the end the books are compared: what was acknowledged against
the ledger, the ledger against what regions were told.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from deltalake import DeltaTable
from kafka import KafkaAdminClient

from thalweg.benchmarks.brokers.load import Book, Load
from thalweg.benchmarks.latency.latency import REGIONS, write_world
from thalweg.conf.settings import KafkaSettings
from thalweg.stack import machine
from thalweg.stack.brokers import Brokers
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.connection import connection_options
from thalweg.streams.broker.errors import NotAcknowledgedError
from thalweg.streams.broker.publish import KafkaPublisher, OutgoingRecord
from thalweg.streams.contract.topics import REQUESTS, TopicContract, topic_name
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.store import table_uri

COPIES: Final = 3
IN_SYNC: Final = 2
PREFIX: Final = "bench-brokers"
REFUSED_MS: Final = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What is measured."""

    rate_per_s: float = 50.0
    warm_up_s: float = 20.0
    seconds: float = 60.0
    """Of each time: with three brokers, with two, and with two again after only one was left."""
    alone_s: float = 30.0
    """How long one broker is left alone."""
    nodes: int = 1_600
    """Of eight GPUs; tasks do not end."""
    patience_s: float = 180.0
    """What is waited for comes in this time, or the measurement has failed."""
    leader_wait_ms: int | None = None
    """How long the job waits for a leader before its query ends; unset, what it waits by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A time of the measurement, in seconds of the epoch."""

    begin: float
    end: float


def measure(parameters: Parameters) -> dict[str, Any]:
    """Run it and return the figures."""
    with tempfile.TemporaryDirectory(prefix="bench-brokers-") as folder:
        base = Path(folder)
        warehouse = base / "warehouse"
        warehouse.mkdir()
        write_world(str(warehouse), parameters.nodes)
        with Brokers(base / "brokers") as brokers:
            kafka = KafkaSettings(
                bootstrap_servers=brokers.bootstrap,
                topic_prefix=PREFIX,
                replication_factor=COPIES,
                min_insync_replicas=IN_SYNC,
                request_timeout_ms=5_000,
                leader_wait_ms=parameters.leader_wait_ms,
            )
            ensure_topics(kafka, [*REGIONS, "control"])
            with _place(base, kafka) as log, Load(kafka, REGIONS, parameters.rate_per_s) as load:
                spans, words = _lose_and_return(brokers, kafka, load, parameters)
                load.stop_asking()
                _until(lambda: load.book.acknowledged_at.keys() <= load.book.assigned_at.keys(), parameters.patience_s)
                time.sleep(1.0)  # in which an event that should not be would come
        said = log.read_text(encoding="utf-8", errors="replace")
        ledger = DeltaTable(table_uri(str(warehouse), DECISIONS.name)).to_pyarrow_table(
            columns=["task_id", "transition", "event_id"]
        )
    return {
        "bench": "brokers",
        "machine": machine.describe(),
        "parameters": {name: getattr(parameters, name) for name in Parameters.__slots__},
        "latency": {name: latency(load.book, span) for name, span in spans.items()},
        "stood_still_s": {name: round(stood_still(load.book, span), 2) for name, span in spans.items()},
        "audit": audit(load.book, ledger.to_pylist()),
        "refused": {"by_a_broker_too_few": words, "while_one_was_alone": load.book.refusals[-1:]},
        "place": {
            "lives": said.count('"world rebuilt"'),
            "regions_lost": said.count('"region lost"'),
            "queries_ended": said.count('"query ended"'),
        },
    }


def _lose_and_return(
    brokers: Brokers, kafka: KafkaSettings, load: Load, parameters: Parameters
) -> tuple[dict[str, Span], str]:
    book = load.book
    _until(lambda: bool(book.assigned_at), parameters.patience_s)
    time.sleep(parameters.warm_up_s)
    spans: dict[str, Span] = {}

    def watch(name: str, seconds: float) -> None:
        begin = time.time()
        time.sleep(seconds)
        spans[name] = Span(begin=begin, end=time.time())

    watch("three", parameters.seconds)
    first, second = _leaders(kafka)
    brokers.kill(first)
    watch("one_lost", parameters.seconds)
    words = refused(kafka)
    acknowledged = len(book.acknowledged_at)
    _until(lambda: len(book.acknowledged_at) > acknowledged, parameters.patience_s)
    brokers.kill(second)
    watch("two_lost", parameters.alone_s)
    told = len(book.assigned_at)
    began = time.time()
    brokers.start(second)
    _until(lambda: len(book.assigned_at) > told, parameters.patience_s)
    spans["one_returned"] = Span(begin=began, end=time.time())
    # What was held up is told first; then it goes on as before.
    _until(lambda: book.acknowledged_at.keys() <= book.assigned_at.keys(), parameters.patience_s)
    watch("two_again", parameters.seconds)
    return spans, words


def _leaders(kafka: KafkaSettings) -> tuple[int, int]:
    """The two brokers that lead most of the partitions of requests: losing them hurts most."""
    admin = KafkaAdminClient(**connection_options(kafka))
    try:
        (topic,) = admin.describe_topics([topic_name(REQUESTS, kafka.topic_prefix)])
    finally:
        admin.close()
    leads = Counter({number: 0 for part in topic["partitions"] for number in part["replica_nodes"]})
    leads.update(part["leader_id"] for part in topic["partitions"])
    (first, _), (second, _), *_ = leads.most_common()
    return first, second


def refused(kafka: KafkaSettings) -> str:
    """Return what a producer is told whose topic wants more copies than brokers live; empty if nothing."""
    strict = kafka.model_copy(update={"min_insync_replicas": COPIES, "topic_prefix": f"{PREFIX}-strict"})
    contract: TopicContract = replace(REQUESTS, partitions=1)
    try:
        ensure_topics(strict, [], [contract])
        with KafkaPublisher(strict, timeout_ms=REFUSED_MS) as publisher:
            publisher.publish([OutgoingRecord(topic=topic_name(contract, strict.topic_prefix), key=None, value=b"{}")])
    except NotAcknowledgedError as error:
        return str(error)
    return ""


@contextmanager
def _place(base: Path, kafka: KafkaSettings) -> Iterator[Path]:
    """Run the job as a process and give its log."""
    environment = os.environ | {
        "THALWEG_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "THALWEG_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
        "THALWEG_KAFKA__REPLICATION_FACTOR": str(kafka.replication_factor),
        "THALWEG_KAFKA__MIN_INSYNC_REPLICAS": str(kafka.min_insync_replicas),
        "THALWEG_KAFKA__REQUEST_TIMEOUT_MS": str(kafka.request_timeout_ms),
        **({"THALWEG_KAFKA__LEADER_WAIT_MS": str(kafka.leader_wait_ms)} if kafka.leader_wait_ms else {}),
        "THALWEG_WAREHOUSE__PATH": str(base / "warehouse"),
        "THALWEG_SPARK__CHECKPOINTS": str(base / "checkpoints"),
        # Nobody sends samples here: what the tables say of nodes stays.
        "THALWEG_PLACE__NODE_TIMEOUT_MS": str(86_400_000),
    }
    path = base / "place.log"
    with path.open("wb") as log:
        command = [sys.executable, "-m", "thalweg.jobs.place"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield path
            if process.poll() is not None:
                raise RuntimeError(f"the job ended; its log ends with:\n{path.read_text()[-3000:]}")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def latency(book: Book, span: Span) -> dict[str, Any]:
    """From the moment a task was due to the moment a region heard of it, of tasks due within a time."""
    waits = [
        (book.assigned_at[task_id] - due) * 1000
        for task_id, due in book.due_at.items()
        if span.begin <= due < span.end and task_id in book.assigned_at
    ]
    if not waits:
        return {"tasks": 0}
    p50, p95, p99 = np.percentile(waits, (50, 95, 99))
    return {
        "tasks": len(waits),
        "p50_ms": round(float(p50), 1),
        "p95_ms": round(float(p95), 1),
        "p99_ms": round(float(p99), 1),
        "max_ms": round(max(waits), 1),
    }


def stood_still(book: Book, span: Span) -> float:
    """Return the longest time within another in which no region heard of a new task, in seconds."""
    heard = sorted(at for at in book.assigned_at.values() if span.begin <= at < span.end)
    moments = [span.begin, *heard, span.end]
    return max(after - before for before, after in pairwise(moments))


def audit(book: Book, ledger: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Compare the books: what was asked, what the ledger has, what regions were told."""
    asked = set(book.acknowledged_at)
    submitted = Counter(row["task_id"] for row in ledger if row["transition"] == "submitted")
    decided = {row["event_id"] for row in ledger if row["event_id"]}
    assigned = Counter(row["task_id"] for row in ledger if row["transition"] == "assigned")
    told = Counter(event.task_id for event in book.events.values() if event.type == "assign")
    return {
        "acknowledged": len(asked),
        "lost": len(asked - submitted.keys()) + len(asked - told.keys()),
        "decided_twice": sum(count - 1 for count in (*submitted.values(), *assigned.values())),
        "told_twice": sum(count - 1 for count in told.values()),
        "told_and_not_decided": len(book.events.keys() - decided),
    }


def _until(met: Callable[[], bool], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not met():
        if time.monotonic() > limit:
            raise RuntimeError(f"not met within {seconds:.0f} s")
        time.sleep(0.02)
