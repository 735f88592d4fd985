"""A regional agent on a broker in memory, with a clock that the test moves."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from thalweg.agent.agent import RegionalAgent
from thalweg.agent.declarations import Declarations
from thalweg.agent.fleet import NodeSpec, RegionFleet
from thalweg.agent.runners import Runner
from thalweg.agent.simulate_runner import SimulateRunner
from thalweg.agent.store import AgentStore
from thalweg.conf.settings import AgentSettings as AgentSettings
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.broker.memory import MemoryBroker, MemoryReader
from thalweg.streams.broker.publish import OutgoingRecord, Publisher
from thalweg.streams.contract.messages import AssignmentEvent, NodeShare, StatusEvent, TelemetryRecord
from thalweg.streams.contract.topics import ASSIGNMENTS, DEADLETTER, REPLICA, STATUS, TELEMETRY, topic_name
from thalweg.streams.replication.replica_log import write_entry
from thalweg.sync.protocol.entries import RecordEntry
from thalweg.sync.protocol.records import Record, Register
from thalweg.sync.protocol.stamps import Hlc

PREFIX = "test"
REGION = "aws:us-east-1"
_ENCODE = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Clock:
    """Moves only when told to."""

    now_ms: int = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@dataclass(slots=True, kw_only=True)
class World:
    """A broker and a region's agent; `restart` is what kill -9 and a new start leave of it."""

    folder: Path
    clock: Clock = field(default_factory=Clock)
    runner: Runner = field(default_factory=SimulateRunner)
    agent_id: str = "agent-1"
    ended: str = ""
    preparation: str | None = None
    """Key under which it is declared how samples are prepared."""
    taken_away_by: Callable[[], int | None] = lambda: None
    announced: list[str] = field(default_factory=list)
    """What the agent has told its supervisor of what keeps it from its work."""
    broker: MemoryBroker = field(init=False)
    agent: RegionalAgent = field(init=False)
    store: AgentStore = field(init=False)

    def __post_init__(self) -> None:
        self.broker = MemoryBroker(clock=self.clock)
        self.broker.create(topic_name(contract, PREFIX, REGION) for contract in (ASSIGNMENTS, STATUS, TELEMETRY))
        self.broker.create([topic_name(DEADLETTER, PREFIX)])
        self.start()

    def start(self, steady: Callable[[], int] | None = None, publisher: Publisher | None = None) -> None:
        fleet = RegionFleet(
            region=REGION,
            nodes={"n1": NodeSpec(node_id="n1", gpu_model="T4", gpus=4, cpus=48, memory_gb=192)},
            links={},
            prices={("T4", False): 1.0},
        )
        self.store = AgentStore(self.folder)
        fence = self.store.fence
        status = topic_name(STATUS, PREFIX, REGION)
        self.agent = RegionalAgent(
            [fleet],
            settings=AgentSettings(),
            prefix=PREFIX,
            agent_id=self.agent_id,
            store=self.store,
            reader=MemoryReader(self.broker, topics=[self.topic, status], start=fence.next_offset),
            publisher=publisher or self.broker,
            runner=self.runner,
            clock=self.clock,
            topic_ids={},
            steady=steady,
            declarations=self.declarations(),
            taken_away_by=self.taken_away_by,
            announce=self.announced.append,
        )
        self.agent.resume()

    def declarations(self) -> Declarations | None:
        if self.preparation is None:
            return None
        topic = topic_name(REPLICA, PREFIX)
        self.broker.create([topic])
        return Declarations(MemoryReader(self.broker, topics=[topic]), self.preparation)

    def declare(self, key: str, **fields: object) -> None:
        """Write a record as the centre of the sync plane does; without fields it is deleted."""
        at = Hlc(self.clock.now_ms, 0, "x")
        registers = {name: Register(value, at) for name, value in fields.items()}
        record = Record(key=key, written=at, last=registers) if fields else Record(key=key, deleted=at)
        entry = write_entry(RecordEntry(record))
        self.broker.publish([OutgoingRecord(topic=topic_name(REPLICA, PREFIX), key=entry.key, value=entry.value)])

    def restart(self, runner: Runner | None = None) -> None:
        """Forget everything in memory; only the file stays."""
        self.store.close()
        self.runner = runner or SimulateRunner()
        self.start()

    @property
    def topic(self) -> str:
        return topic_name(ASSIGNMENTS, PREFIX, REGION)

    def send(self, *events: AssignmentEvent) -> None:
        self.broker.publish([OutgoingRecord(topic=self.topic, key=b"k", value=_ENCODE(event)) for event in events])

    def send_raw(self, value: bytes) -> None:
        self.broker.publish([OutgoingRecord(topic=self.topic, key=b"k", value=value)])

    def steps(self, count: int = 3, advance_ms: int = 20) -> None:
        for _ in range(count):
            self.agent.step(0)
            self.clock.now_ms += advance_ms

    def reports(self) -> list[StatusEvent]:
        """Every report on the region's status topic."""
        return [_decoded(record, StatusEvent) for record in self.broker.topics[topic_name(STATUS, PREFIX, REGION)]]

    def told(self, task_id: str) -> list[str]:
        """Types of the reports about one task, in order, progress left out."""
        return [r.type for r in self.reports() if r.task_id == task_id and r.type != "progress"]

    def telemetry(self) -> list[TelemetryRecord]:
        """Every telemetry record."""
        topic = topic_name(TELEMETRY, PREFIX, REGION)
        return [_decoded(record, TelemetryRecord) for record in self.broker.topics[topic]]

    def held(self) -> dict[str, int]:
        """Tasks held with their epochs, as the next inventory would say."""
        return {held.event.task_id: held.event.epoch for held in self.agent.tasks.held(REGION)}


def _decoded(record: IncomingRecord, kind: type) -> object:
    return msgspec.json.decode(record.value or b"", type=kind)


def assign(
    task_id: str, epoch: int = 1, *, expected_s: float = 1.0, devices: Iterable[int] = (), **more: object
) -> AssignmentEvent:
    """Make an assignment, of whole GPUs on the one node."""
    chosen = list(devices)
    nodes = [NodeShare(node_id="n1", gpus=len(chosen), devices=chosen)] if chosen else []
    return AssignmentEvent(
        **{  # type: ignore[arg-type]
            "event_id": f"{task_id}-{epoch}",
            "type": "assign",
            "task_id": task_id,
            "epoch": epoch,
            "region": REGION,
            "nodes": nodes,
            "expected_s": expected_s,
            "decided_at": 1_000_000 + epoch,
        }
        | more
    )


def revoke(task_id: str, epoch: int) -> AssignmentEvent:
    """Make a revocation."""
    return assign(task_id, epoch, type="revoke", event_id=f"revoke-{task_id}-{epoch}")
