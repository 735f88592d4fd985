"""What the tests of Flower's grids share: a client app that remembers, strategies, and participants on any broker."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam, FedAvg, FedProx, Krum

from thalweg.conf.settings import KafkaSettings
from thalweg.flower.answer_memory import AnswerMemory
from thalweg.flower.client_node import ClientNode
from thalweg.flower.connection import flower_participant
from thalweg.flower.kafka_grid import KafkaGrid
from thalweg.flower.participant import FlowerParticipant
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.broker.memory import MemoryBroker, MemoryReader
from thalweg.streams.broker.publish import OutgoingRecord, Publisher
from thalweg.streams.contract.topics import CALLS, REPLIES, topic_name, topic_pattern
from thalweg.streams.learning.payloads import PayloadStore

SIZE = 12
NAMES = ("bern", "oslo", "rome", "lima", "cork")
REGIONS = {name: f"aws:{name}-1" for name in NAMES}
PREFIX = "flower"


def names_and_configs(names: Sequence[str] = NAMES) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, {"partition-id": NAMES.index(name)}) for name in names)


def trained(begin: np.ndarray, partition: int, server_round: int, proximal: float, calls: int) -> np.ndarray:
    """Some steps of a regression on samples of this participant's own; what it remembers moves the result."""
    generator = np.random.default_rng([partition, server_round])
    x = generator.standard_normal((20, SIZE)).astype(np.float32)
    y = x @ np.linspace(-1, partition, SIZE, dtype=np.float32)
    weights = begin.copy()
    for _ in range(5):
        gradient = x.T @ (x @ weights - y) / np.float32(20) + np.float32(proximal) * (weights - begin)
        weights = weights - np.float32(0.05) * gradient
    return (weights + np.float32(1e-3 * calls)).astype(np.float32)


def learning_app(note: Callable[[str, str, int], None] = lambda *_: None) -> ClientApp:
    """Make an app that learns; `note` is told of each training ("begins", "ends"), whose and of which round."""
    made = ClientApp()

    @made.train()
    def train(message: Message, context: Context) -> Message:
        config = message.content["config"]
        partition, number = int(context.node_config["partition-id"]), int(config["server-round"])
        note("begins", NAMES[partition], number)
        calls = int(context.state["memory"]["calls"]) if "memory" in context.state else 0
        context.state["memory"] = MetricRecord({"calls": calls + 1})
        (begin,) = message.content["arrays"].to_numpy_ndarrays()
        after = trained(begin, partition, number, float(config.get("proximal-mu", 0.0)), calls)
        metrics = MetricRecord({"num-examples": 10 + partition, "loss": float(np.square(after).sum())})
        note("ends", NAMES[partition], number)
        return Message(RecordDict({"arrays": ArrayRecord([after]), "metrics": metrics}), reply_to=message)

    @made.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        (weights,) = message.content["arrays"].to_numpy_ndarrays()
        metrics = MetricRecord({"num-examples": 10, "size": float(np.abs(weights).sum())})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    @made.query()
    def query(message: Message, context: Context) -> Message:
        raise RuntimeError("this one fails")

    return made


def _note_in_a_file(what: str, name: str, number: int) -> None:
    """Of an app in a process of its own: write it down, and stand still where a file asks for that."""
    folder = Path(os.environ["FLOWER_STAGE"])
    with (folder / "log").open("a") as log:
        log.write(f"{what} {name} {number}\n")
    while what == "begins" and (folder / f"hold-{name}-{number}").exists():
        time.sleep(0.02)


app = learning_app(_note_in_a_file)

STRATEGIES: Mapping[str, Callable[[], Any]] = {
    "FedAvg": lambda: FedAvg(min_available_nodes=len(NAMES)),
    "FedAvg of some": lambda: FedAvg(fraction_train=0.6, min_available_nodes=len(NAMES)),
    "FedProx": lambda: FedProx(proximal_mu=0.3, min_available_nodes=len(NAMES)),
    "FedAdam": lambda: FedAdam(eta=0.05, min_available_nodes=len(NAMES)),
    "Krum": lambda: Krum(num_malicious_nodes=1, min_available_nodes=len(NAMES)),
}


def outcome(grid: Grid, strategy: Any, rounds: int = 3) -> tuple[bytes, dict[int, Any], dict[int, Any]]:
    """Let a strategy learn; the bytes of the weights, and the figures of training and evaluation."""
    random.seed(7)  # Flower draws nodes by it
    begin = ArrayRecord([np.linspace(0, 1, SIZE, dtype=np.float32)])
    result = strategy.start(grid, begin, num_rounds=rounds, timeout=300)
    (weights,) = result.arrays.to_numpy_ndarrays()
    return (
        weights.tobytes(),
        {number: dict(figures) for number, figures in result.train_metrics_clientapp.items()},
        {number: dict(figures) for number, figures in result.evaluate_metrics_clientapp.items()},
    )


@dataclass
class PumpedReader:
    """Replies in memory; whoever reads them lets the participants take their turns before."""

    inner: MemoryReader
    turn: Callable[[], None]

    def poll(self, timeout_ms: int) -> list[IncomingRecord]:
        self.turn()
        return self.inner.poll(0)

    def end_offsets(self) -> dict[tuple[str, int], int]:
        return self.inner.end_offsets()

    def position(self, topic: str, partition: int) -> int:
        return self.inner.position(topic, partition)

    def close(self) -> None:
        self.inner.close()


@dataclass
class Repeating:
    """Says everything twice, and with everything something that was said long ago."""

    inner: Publisher
    said: list[OutgoingRecord] = field(default_factory=list)

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        late = self.said[:: max(1, len(self.said) // 3)][:3]
        self.inner.publish([*late, *records, *records])
        self.said += records

    def close(self) -> None:
        self.inner.close()


class FlowerStage:
    """A broker in memory with participants, who take a turn each whenever the server app looks for replies."""

    def __init__(self, folder: Path) -> None:
        self.now_ms = 1_790_000_000_000
        self.folder = folder
        self.broker = MemoryBroker(clock=lambda: self.now_ms)
        self.broker.create([topic_name(CALLS, PREFIX), *(topic_name(REPLIES, PREFIX, one) for one in REGIONS.values())])
        self.publisher: Publisher = self.broker
        self.participants: dict[str, FlowerParticipant] = {}

    def participant(
        self, run: str, name: str, made: ClientApp, *, publisher: Publisher | None = None, remembers: bool = True,
        inline_bytes: int = 200,
    ) -> FlowerParticipant:  # fmt: skip
        node = ClientNode(run, name, made, node_config={"partition-id": NAMES.index(name)})
        replies = topic_name(REPLIES, PREFIX, REGIONS[name])
        one = FlowerParticipant(
            run,
            node,
            region=REGIONS[name],
            calls=MemoryReader(self.broker, topics=[topic_name(CALLS, PREFIX)]),
            replies=MemoryReader(self.broker, topics=[replies]),
            publisher=publisher or self.publisher,
            topic_prefix=PREFIX,
            clock=lambda: self.now_ms,
            store=PayloadStore(str(self.folder / "payloads")),
            inline_bytes=inline_bytes,
            memory=AnswerMemory(self.folder / "memory", run, name) if remembers else None,
        )
        one.join()
        self.participants[name] = one
        return one

    def grid(self, run: str, inline_bytes: int = 200, publisher: Publisher | None = None) -> KafkaGrid:
        replies = MemoryReader(self.broker, pattern=topic_pattern(REPLIES, PREFIX))
        return KafkaGrid(
            run,
            calls=MemoryReader(self.broker, topics=[topic_name(CALLS, PREFIX)]),
            replies=PumpedReader(replies, self.turn),
            publisher=publisher or self.publisher,
            topic_prefix=PREFIX,
            clock=lambda: self.now_ms,
            steady=self._steps,
            store=PayloadStore(str(self.folder / "payloads")),
            inline_bytes=inline_bytes,
        )

    def _steps(self) -> int:
        """A clock that is a look further on each time, so that what waits for nobody ends."""
        self._steady = getattr(self, "_steady", 0) + 50
        return self._steady

    def turn(self) -> None:
        for one in list(self.participants.values()):
            one.step(0)


@contextmanager
def threads_that_take_part(
    run: str, names: Sequence[str], kafka: KafkaSettings, folder: Path, made: ClientApp, wrap: bool = False
) -> Iterator[None]:
    """Take part over a real broker, each in a thread of its own, until this is left."""
    over = threading.Event()

    def follow(name: str) -> None:
        node = ClientNode(run, name, made, node_config={"partition-id": NAMES.index(name)})
        one = flower_participant(
            run, node, kafka, region=REGIONS[name], payloads=str(folder / "payloads"), inline_bytes=200,
            memory=folder / "memory",
        )  # fmt: skip
        if wrap:
            one._publisher = Repeating(one._publisher)
        try:
            one.join()
            while not over.is_set() and not one.step(50):
                pass
        finally:
            one.close()

    threads = [threading.Thread(target=follow, args=(name,), name=name) for name in names]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
