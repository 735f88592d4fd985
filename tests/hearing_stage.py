"""Real `Placer`s, a broker in memory and regions that run what they are told, on one true time that the test moves.

Whatever lies between a region's word and the job's ear can go wrong here: the broker is away, the job is suspended or
started anew, a partition is read later than the others, the topics are read from their beginning, any wall clock is
set. True time advances by a second a step; nothing but the steady clock sees it.
"""

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from tests.place_driver import Driver
from thalweg.conf.settings import PlaceSettings, Settings, WarehouseSettings
from thalweg.jobs.placement.heartbeat import CONTROL_REGION, heartbeat
from thalweg.jobs.placement.placer import Placer
from thalweg.jobs.placement.recovery import recover
from thalweg.jobs.placement.tables import PlaceTables
from thalweg.jobs.runtime.job import Stop
from thalweg.scheduling.liveness.hearing import Ends, Hearing, Sounding
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.facts import NodeFacts, WorldFacts
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.broker.range_reader import SCHEMA
from thalweg.streams.contract.topics import ASSIGNMENTS, STATUS, topic_name
from thalweg.sync.ledger.ledger import Ledger

PREFIX = "thalweg"
REQUESTS_TOPIC = "thalweg.requests"
WALL_MS = 1_790_000_000_000
STEP_MS = 1_000


@dataclass(slots=True)
class Region:
    """Beats every second, lists what it holds every ten, runs everything for ever."""

    name: str
    alive: bool = True
    clock_error_ms: int = 0
    says_how_far: bool = True
    beat_every: int = 1
    read: int = 0
    seen: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    unsent: list[dict[str, object]] = field(default_factory=list)

    def live(self, stage: "Stage") -> None:
        """Obey what is new, and speak while the broker hears."""
        if not self.alive or stage.broker_down:
            return
        for _, value in stage.topics[self.assignments][self.read :]:
            self._obey(json.loads(value))
        self.read = len(stage.topics[self.assignments])
        for report in self.unsent:
            self._say(stage, report)
        self.unsent.clear()
        if stage.steps % self.beat_every == 0:
            self._say(stage, {"type": "heartbeat"})
        if stage.steps % 10 == len(self.name) % 10:
            told = {"read_to": [self.read]} if self.says_how_far else {}
            self._say(stage, {"type": "inventory", "tasks": sorted(self.held.items()), **told})

    @property
    def assignments(self) -> str:
        return topic_name(ASSIGNMENTS, PREFIX, self.name)

    def _obey(self, event: dict[str, object]) -> None:
        task, epoch = str(event["task_id"]), int(str(event["epoch"]))
        if epoch <= self.seen.get(task, 0):
            return
        self.seen[task] = epoch
        self.held.pop(task, None)
        if event["type"] == "assign":
            self.held[task] = epoch
            self.unsent += ({"type": kind, "task_id": task, "epoch": epoch} for kind in ("accepted", "running"))

    def _say(self, stage: "Stage", report: dict[str, object]) -> None:
        value = json.dumps({"region": self.name, "agent_id": f"agent-{self.name}", **report}).encode()
        stage.append(topic_name(STATUS, PREFIX, self.name), value, stage.wall_ms + self.clock_error_ms)


class NeverStops(Stop):
    """Waits for nothing."""

    def wait(self, seconds: float) -> bool:
        return False


@dataclass(slots=True, kw_only=True)
class Stage:
    """See the module's words."""

    folder: Path
    names: Sequence[str] = ("a", "bb", "ccc")
    seed: int = 0
    place: PlaceSettings = field(default_factory=PlaceSettings)
    regions: dict[str, Region] = field(init=False)
    topics: dict[str, list[tuple[int, bytes]]] = field(init=False)
    true_ms: int = 5_000_000
    steps: int = 0
    broker_down: bool = False
    suspended: bool = False
    clock_error_ms: int = 0
    late: frozenset[str] = frozenset()
    """Topics of which a batch takes one record, however many there are."""
    lives: int = 0
    placer: Placer = field(init=False)
    driver: Driver = field(init=False)
    _read: dict[str, int] = field(default_factory=dict)
    _batch: int = 0
    _query: str = "q0"

    def __post_init__(self) -> None:
        self.regions = {name: Region(name) for name in self.names}
        topics = [topic_name(c, PREFIX, name) for name in (*self.names, CONTROL_REGION) for c in (STATUS, ASSIGNMENTS)]
        self.topics = {name: [] for name in [REQUESTS_TOPIC, *topics]}
        self.start()

    # The job

    def start(self, *, from_beginning: bool = False, rebuild_takes_s: int = 0) -> None:
        """Begin a life of the job; `from_beginning` with its checkpoint moved away."""
        self.lives += 1
        if from_beginning:
            self._read, self._batch, self._query = {}, 0, f"q{self.lives}"
        ledger, stop = Ledger.claim(str(self.folder)), NeverStops()
        tables = PlaceTables(str(self.folder), 1_000_000, 0, stop)
        world = recover(ledger, str(self.folder), {}, self._driver_clock())
        for _ in range(rebuild_takes_s):
            self._world_goes_on()
        facts = iter([self._facts()])
        settings = Settings(warehouse=WarehouseSettings(path=str(self.folder)), place=self.place)
        hearing = Hearing(
            timeout_ms=settings.place.heartbeat_timeout_ms,
            life=f"life-{self.lives}",
            start=Sounding(number=0, made_ms=self.true_ms, ends=self._ends()),
        )
        self.placer = Placer(
            settings=settings,
            ledger=ledger,
            world=world,
            publisher=self,
            tables=tables,
            facts=lambda: next(facts, WorldFacts()),
            clock=self._driver_clock,
            packer=Packer(world.nodes),
            hearing=hearing,
            end_of_batch=lambda _: {(topic, 0): read for topic, read in self._read.items()},
        )
        self.driver = Driver(placer=self.placer, stop=stop)

    def _facts(self) -> WorldFacts:
        nodes = [
            NodeFacts(region=name, node_id="n", gpu_model="A100", spot=False, gpus=8, cpus=96.0, memory_gb=512.0,
                      ready=True)
            for name in self.names
        ]  # fmt: skip
        return WorldFacts(nodes=nodes, links={}, prices={(name, "A100", False): 1.0 for name in self.names})

    def _ends(self) -> Ends:
        return {name: {0: len(log)} for name, log in self.topics.items()}

    def _driver_clock(self) -> int:
        return self.wall_ms + self.clock_error_ms

    @property
    def wall_ms(self) -> int:
        """What a right wall clock shows."""
        return WALL_MS + self.true_ms

    def sound(self) -> None:
        """What the job's heartbeat thread does."""
        hearing = self.placer.hearing
        number = hearing.begin()
        hearing.sounded(Sounding(number=number, made_ms=self.true_ms, ends=self._ends()))
        self.publish([heartbeat(PREFIX, self._driver_clock(), hearing.life, number)])

    def batch(self) -> None:
        """Read what is there, or of late topics a little of it, and place."""
        rows = []
        for topic, log in self.topics.items():
            if topic.startswith(f"{PREFIX}.{ASSIGNMENTS.topic}."):
                continue
            start = self._read.get(topic, 0)
            end = min(start + 1, len(log)) if topic in self.late else len(log)
            rows += [
                {"topic": topic, "partition": 0, "offset": offset, "timestamp_ms": log[offset][0], "key": b"k",
                 "value": log[offset][1]}
                for offset in range(start, end)
            ]  # fmt: skip
            self._read[topic] = end
        self._batch += 1
        if rows:
            self.driver.take(pa.Table.from_pylist(rows, schema=SCHEMA), self._query, self._batch)

    # The broker, as the job's publisher sees it

    def publish(self, records: Iterable[OutgoingRecord]) -> None:
        """Take records, at once."""
        for record in records:
            self.append(record.topic, record.value or b"", self._driver_clock())

    def close(self) -> None:
        """Do nothing."""

    def append(self, topic: str, value: bytes, timestamp_ms: int) -> None:
        """Write one record with its producer's time."""
        self.topics.setdefault(topic, []).append((timestamp_ms, value))

    # Time

    def run(self, seconds: int) -> "Stage":
        """Let seconds pass, with one batch in each."""
        for _ in range(seconds):
            self._world_goes_on()
            if not self.broker_down and not self.suspended:
                self.sound()
                self.batch()
        return self

    def _world_goes_on(self) -> None:
        self.true_ms += STEP_MS
        self.steps += 1
        order = sorted(self.regions.values(), key=lambda region: region.name)
        random.Random(self.seed + self.steps).shuffle(order)
        for region in order:
            region.live(self)

    def submit(self, *task_ids: str, after: Sequence[object] = ()) -> "Stage":
        """Ask for tasks of one GPU that run for ever."""
        for task_id in task_ids:
            asked = {"task_id": task_id, "per_worker": {"gpus": 1}, "expected_s": 1e6, "after": list(after)}
            self.append(REQUESTS_TOPIC, json.dumps(asked).encode(), self.wall_ms)
        return self

    # What came of it

    def told(self) -> list[tuple[str, str, int, str | None]]:
        """The ledger: (task, transition, epoch, region), in order."""
        rows = [row for table in self.placer.ledger.all_rows() for row in table.to_pylist()]
        return [(row["task_id"], row["transition"], row["epoch"], row["region"]) for row in rows]

    def disturbed(self) -> list[tuple[str, str, int, str | None]]:
        """Rows that nothing but trouble writes."""
        calm = {"submitted", "accepted", "running", "waiting"}
        return [row for row in self.told() if row[1] not in calm and (row[1] != "assigned" or row[2] != 1)]
