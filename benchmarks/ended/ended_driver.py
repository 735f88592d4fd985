"""A place job without Spark and without a broker, and regions that run what it assigns and report what came of it.

The placer, the ledger, the fold into the tables and their upkeep are the product's own; records are handed over as
Spark would.
"""

import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import pyarrow as pa

from thalweg.conf.settings import Settings
from thalweg.jobs.microbatch.dead_letters import DeadLetters
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.microbatch.microbatch import Microbatch
from thalweg.jobs.microbatch.outcome import BatchId
from thalweg.jobs.placement.placer import ORDER, Placer
from thalweg.jobs.placement.recovery import recover
from thalweg.jobs.placement.tables import PlaceTables
from thalweg.jobs.runtime.job import Stop
from thalweg.scheduling.liveness.hearing import Hearing
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.facts import NodeFacts, WorldFacts
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.broker.range_reader import SCHEMA
from thalweg.streams.contract.topics import ASSIGNMENTS, REQUESTS, RESULTS, STATUS, topic_name
from thalweg.sync.ledger.ledger import Ledger

REGIONS: Final = tuple(f"region-{index}" for index in range(8))
NODES_PER_REGION: Final = 20
GPUS_PER_NODE: Final = 8
QUERY: Final = "bench-ended"
STAYS_MS: Final = 600_000_000
"""No region falls silent, however slow the machine is."""


class _Assigned(msgspec.Struct):
    """What is read of an assignment."""

    type: str
    task_id: str
    region: str
    epoch: int


class Regions:
    """In the place of the broker and of all regions: what is assigned runs at once, and reports at the next asking."""

    def __init__(self, result_of: Callable[[int], dict[str, Any]]) -> None:
        """Begin with nothing; `result_of` makes what the n-th run gives."""
        self._result_of = result_of
        self._started: deque[_Assigned] = deque()
        self._running: deque[_Assigned] = deque()
        self._decode = msgspec.json.Decoder(_Assigned).decode
        self.ended = 0
        self.told_ends = 0
        """Events of the topic of ends."""
        self.told_bytes = 0

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        """Take assignments and ends."""
        for record in records:
            if record.topic.startswith(f"thalweg.{ASSIGNMENTS.topic}."):
                event = self._decode(record.value or b"")
                if event.type == "assign":
                    self._started.append(event)
            elif record.topic == topic_name(RESULTS, "thalweg"):
                self.told_ends += 1
                self.told_bytes += record.size_bytes()

    def close(self) -> None:
        """Nothing is open."""

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing runs."""
        return not (self._started or self._running)

    def reports(self, now_ms: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give what the regions say: what was assigned runs, and what ran has ended."""
        for region in REGIONS:
            yield topic_name(STATUS, "thalweg", region), {"type": "heartbeat", "region": region}
        while self._running:
            event = self._running.popleft()
            self.ended += 1
            yield self._report(event, "succeeded", **self._result_of(self.ended), started_at=now_ms - 1_000)
        while self._started:
            event = self._started.popleft()
            yield self._report(event, "accepted")
            yield self._report(event, "running")
            self._running.append(event)

    @staticmethod
    def _report(event: _Assigned, kind: str, **told: Any) -> tuple[str, dict[str, Any]]:
        value = {"type": kind, "region": event.region, "task_id": event.task_id, "epoch": event.epoch, **told}
        return topic_name(STATUS, "thalweg", event.region), value


@dataclass(slots=True, kw_only=True)
class EndedDriver:
    """One life of the place job."""

    settings: Settings
    regions: Regions
    clock: Callable[[], int]
    ledger: Ledger = field(init=False)
    tables: PlaceTables = field(init=False)
    _stop: Stop = field(default_factory=Stop)
    _batches: Microbatch[pa.Table] = field(init=False)
    _batch: int = 0
    _offsets: "defaultdict[str, int]" = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        """Begin as `jobs.place.start` does."""
        warehouse = self.settings.warehouse.path
        self.ledger = Ledger.claim(warehouse)
        self.tables = open_tables(self.settings, self._stop)
        world = recover(self.ledger, warehouse, {}, self.clock())
        facts = iter([_facts()])
        placer = Placer(
            settings=self.settings,
            ledger=self.ledger,
            world=world,
            publisher=self.regions,
            tables=self.tables,
            facts=lambda: next(facts, WorldFacts()),
            clock=self.clock,
            packer=Packer(world.nodes),
            hearing=Hearing(timeout_ms=STAYS_MS),
            host=Host(),
        )
        self._batches = Microbatch(
            job="place",
            order=ORDER,
            read=lambda frame, _: frame.records,
            decide=placer.decide,
            dead_letters=DeadLetters("thalweg", lambda: self.regions),
            stop=self._stop,
        )
        self.tables.start(self.ledger)

    def take(self, requests: Sequence[dict[str, Any]]) -> None:
        """Take a batch of requests and of all that the regions have to say."""
        now_ms = self.clock()
        sent = [*((topic_name(REQUESTS, "thalweg"), request) for request in requests), *self.regions.reports(now_ms)]
        rows = []
        for topic, value in sent:
            rows.append((topic, 0, self._offsets[topic], now_ms, None, json.dumps(value).encode()))
            self._offsets[topic] += 1
        columns = [list(column) for column in zip(*rows, strict=True)]
        received = pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
        self._batches.run(received, BatchId(QUERY, self._batch))
        self._batch += 1

    def end(self) -> None:
        """Stop in order: the tables take what is left."""
        self._stop.finish(seconds=3_600)


def open_tables(settings: Settings, stop: Stop) -> PlaceTables:
    """Open the tables as the place job does."""
    place = settings.place
    return PlaceTables(
        settings.warehouse.path,
        place.folds_every_ms,
        place.compact_every_s,
        stop,
        archive_after_s=place.archive_after_s,
    )


def _facts() -> WorldFacts:
    nodes = [
        NodeFacts(
            region=region,  # type: ignore[arg-type]
            node_id=f"node-{index:03d}",  # type: ignore[arg-type]
            gpu_model="A100",
            spot=False,
            gpus=GPUS_PER_NODE,
            cpus=96.0,
            memory_gb=512.0,
            ready=True,
        )
        for region in REGIONS
        for index in range(NODES_PER_REGION)
    ]
    prices: dict[Any, float] = {(region, "A100", False): 2.0 + index / 10 for index, region in enumerate(REGIONS)}
    return WorldFacts(nodes=nodes, links={}, prices=prices)
