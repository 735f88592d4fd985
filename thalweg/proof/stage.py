"""Plays a history: in rounds of a quarter of a second agents step, the driver takes a batch, and things happen."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from thalweg.agent.fleet import NodeSpec, RegionFleet
from thalweg.conf.settings import KafkaSettings, PlaceSettings, Settings, WarehouseSettings, WeightSettings
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.placement.heartbeat import CONTROL_REGION
from thalweg.jobs.placement.put_back import write_put_back
from thalweg.proof.driver_life import Checkpoint, DriverLife
from thalweg.proof.histories import NONSENSE, ORDERS, PUT_BACK, ROUND_MS, Act, FaultHistory, puts_files_back
from thalweg.proof.points import KilledError, Points
from thalweg.proof.region import Processes, Region
from thalweg.proof.wire import Wire
from thalweg.proof.witness import Witness
from thalweg.scheduling.ids import NodeId, RegionId
from thalweg.scheduling.liveness.hearing import BEAT_MS
from thalweg.scheduling.world.facts import NodeFacts, WorldFacts
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.broker.memory import MemoryBroker
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.contract.topics import (
    ASSIGNMENTS,
    CONTROL,
    DEADLETTER,
    REQUESTS,
    RESULTS,
    STATUS,
    TELEMETRY,
    topic_name,
)
from thalweg.sync.ledger.put_back import PutBack
from thalweg.sync.proof.lossy_disk import LossyDisk

PREFIX: Final = "t"
BEGAN_MS: Final = 1_700_000_000_000
QUIET_MS: Final = 1_000
"""A round's length after the trouble: nothing is measured there, only waited for."""
MOST_QUIET_ROUNDS: Final = 400
MOST_FAILURES: Final = 3
SHORT_CUT_ROUNDS: Final = 10
CPUS, MEMORY_GB = 64.0, 256.0


@dataclass(slots=True, kw_only=True)
class Stage:
    """The line, and all that can happen to it. Every process has a clock, a wire and points of its own."""

    history: FaultHistory
    folder: Path
    now_ms: int = BEGAN_MS
    steady_ms: int = 0
    round: int = 0
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    witness_of: Callable[[Callable[[], int]], Witness] = Witness
    """Makes the witness, on a clock that is right."""
    witness: Witness = field(init=False)
    host: Host = field(default_factory=Host)
    driver: DriverLife | None = None
    driver_lives: int = 0
    asked: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """(offset, request) of all that was sent and is well formed."""
    gone: set[str] = field(default_factory=set)
    """Regions that do not come back."""
    nonsense: list[int] = field(default_factory=list)
    nonsense_orders: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """What ended a life of the driver though nothing outside prevented its work."""
    broker: MemoryBroker = field(init=False)
    driver_wire: Wire = field(init=False)
    fleets: list[RegionFleet] = field(init=False)
    regions: list[Region] = field(init=False)
    """The agents: one a region at first."""
    _machines: dict[RegionId, list[Processes]] = field(default_factory=dict)
    _offsets_ms: dict[str, int] = field(default_factory=dict)
    _until: dict[str, int] = field(default_factory=dict)
    _away: dict[tuple[str, str], str] = field(default_factory=dict)
    _facts_changed: bool = True
    _beat_at_ms: int = 0
    _backups: list[Checkpoint] = field(default_factory=list)
    _copies: list[tuple[Checkpoint, Path]] = field(default_factory=list)
    """Of everything, where the ledger is to be put back."""
    _disk: LossyDisk | None = None
    """Of the warehouse; None where power is never lost, because watching it takes time."""
    _power_goes: bool | None = None
    """Whether power goes with the driver's next death, and then whether names that were not synced survive it."""
    _prices: dict[RegionId, float] = field(default_factory=dict)
    """Of regions whose price has changed."""
    _echoes: list[tuple[int, list[OutgoingRecord]]] = field(default_factory=list)
    """What is delivered once more, and in which round."""
    _echoed: dict[str, int] = field(default_factory=dict)
    """Of the topics that are echoed, up to where."""
    _echo_behind: int = 0
    """Rounds."""

    def __post_init__(self) -> None:
        """Make the topics and the machines; nobody lives yet."""
        self.witness = self.witness_of(lambda: self.now_ms)
        self.broker = MemoryBroker(clock=lambda: self.now_ms)
        names = [RegionId(f"r{number}") for number in range(len(self.history.nodes))]
        self.broker.create(topic_name(contract, PREFIX) for contract in (REQUESTS, CONTROL, RESULTS, DEADLETTER))
        for region in (*names, CONTROL_REGION):
            self.broker.create(topic_name(contract, PREFIX, region) for contract in (ASSIGNMENTS, STATUS, TELEMETRY))
        self.driver_wire = Wire(broker=self.broker, points=Points())
        self.fleets = [self._fleet(name, gpus) for name, gpus in zip(names, self.history.nodes, strict=True)]
        self.regions = [self._agent(fleet, fleet.region) for fleet in self.fleets]

    @property
    def settings(self) -> Settings:
        """The product's own, but for where things lie and for the sake of short histories."""
        place = PlaceSettings(heartbeat_timeout_ms=3_000, accept_timeout_ms=4_000, plan_deadline_ms=60_000)
        if self.history.looks:
            often = {"look_again_every_s": 0.5, "move_again_after_s": 0.5, "start_up_s": 0.0}
            cheap = {"weights": WeightSettings(move=0.0)}  # tasks of seconds save no dollars
            place = place.model_copy(update=often | cheap)
        return Settings(
            warehouse=WarehouseSettings(path=str(self.folder / "warehouse")),
            kafka=KafkaSettings(topic_prefix=PREFIX),
            place=place,
        )

    def _fleet(self, name: RegionId, gpus: tuple[int, ...]) -> RegionFleet:
        nodes = {
            f"n{number}": NodeSpec(node_id=f"n{number}", gpu_model="T4", gpus=count, cpus=CPUS, memory_gb=MEMORY_GB)
            for number, count in enumerate(gpus)
        }
        return RegionFleet(region=name, nodes=nodes, links={}, prices={("T4", False): 1.0})

    def _agent(self, fleet: RegionFleet, name: str) -> Region:
        """Make an agent that does not live yet, with a folder of its own on the region's machine."""
        points = Points()
        machine = self._machines.setdefault(fleet.region, [])
        processes = Processes(self.history.seed, self.witness, points.reach, self.history.survives, machine=machine)
        machine.append(processes)
        quick = self.settings.agent.model_copy(update={"inventory_ms": 2_000})
        return Region(
            fleet=fleet,
            settings=self.settings.model_copy(update={"agent": quick}),
            folder=self.folder / name,
            wire=Wire(broker=self.broker, points=points),
            processes=processes,
            clock=lambda: self.now_ms + self._offsets_ms.get(fleet.region, 0),
            steady=lambda: self.steady_ms,
            name=name,
        )

    def _backup(self, name: str) -> Path:
        return self.folder / "backups" / name

    # Time

    def play(self) -> None:
        """Play the acts, then let everything heal and come to rest."""
        if not any(act.what == "power lost" for act in self.history.acts):
            self._play()
            return
        self._disk = LossyDisk(self.folder / "warehouse")
        with self._disk.watched():
            self._play()

    def _play(self) -> None:
        acts = list(self.history.acts)
        while self.round < self.history.rounds:
            while acts and acts[0].at <= self.round:
                self._act(acts.pop(0))
            self._go_round(ROUND_MS)
        self._heal()
        for _ in range(MOST_QUIET_ROUNDS):
            self._go_round(QUIET_MS)
            if len(self.failures) >= MOST_FAILURES or self._at_rest():
                break

    def _go_round(self, length_ms: int) -> None:
        self.round += 1
        self._deliver_echoes()
        self.now_ms += length_ms
        self.steady_ms += length_ms
        for region in self.regions:
            name = region.fleet.region
            if region.superseded or name in self.gone or not self._is_over(f"freeze {name}"):
                continue
            try:
                region.step()
            except KilledError:
                region.dies()
        if self._is_over("freeze driver"):
            self._drive()
        if self.round % 10 == 0:
            self._backups.append(self.checkpoint.copy())
            self._copy_warehouse()
            for region in self.regions:
                region.backs_up(self._backup(region.name))

    def _drive(self) -> None:
        with self._driver_lives():
            if self.driver is None:
                self._begin_driver()
            assert self.driver is not None
            self._beat_and_batch(self.driver)
            self.driver.placer.tables.step()
            self.driver.placer.again.look()

    def _beat_and_batch(self, driver: DriverLife) -> None:
        if self.steady_ms >= self._beat_at_ms and not driver.wire.cut:
            self._beat_at_ms = self.steady_ms + BEAT_MS
            driver.beat()
        driver.batch()

    def _begin_driver(self) -> None:
        self.driver_lives += 1
        self._facts_changed = True
        self.driver = DriverLife(
            settings=self.settings,
            wire=self.driver_wire,
            checkpoint=self.checkpoint,
            clock=lambda: self.now_ms + self._offsets_ms.get("driver", 0),
            steady=lambda: self.steady_ms,
            facts=self._facts,
            host=self.host,
            life=f"life-{self.driver_lives}",
        )

    @contextmanager
    def _driver_lives(self) -> Iterator[None]:
        """End the driver's life where it is killed or fails; a cut wire is reason enough to fail, nothing else is."""
        wire = self.driver_wire
        troubled = wire.cut or wire.lost_answers + wire.lost_commits > 0
        try:
            yield
        except KilledError:
            self._driver_dies()
        except Exception as error:
            if not troubled:
                self.failures.append(f"{type(error).__name__}: {error}"[:300])
            self.driver = None  # the query is started again in the same process

    def _driver_dies(self) -> None:
        """End the driver's process, and all that it remembered; with the power also what was not on the disk."""
        self.driver, self.host = None, Host()
        if self._disk is not None and self._power_goes is not None:
            self._disk.lose_power(names_survive=self._power_goes)
            self._power_goes = None

    def _is_over(self, what: str) -> bool:
        return self._until.get(what, 0) <= self.round

    # What happens

    def _act(self, act: Act) -> None:
        region = self.regions[act.which % len(self.regions)]
        name = region.fleet.region
        match act.what:
            case "submit":
                assert act.request is not None
                self._ask(act.request)
            case "update":
                assert act.request is not None
                self._ask(act.request | {"op": "update"})
            case "cancel":
                self._ask({"task_id": f"t{act.which}", "op": "cancel"})
            case "repeated request" if self.asked:
                self._ask(self.asked[act.which % len(self.asked)][1])
            case "drain" | "undrain" | "move" | "hold tenant" | "release tenant":
                self._order(act, name)
            case "nonsense order":
                self.nonsense_orders.append(self._send(CONTROL, NONSENSE[act.which % (len(NONSENSE) - 2)].encode()))
            case "node notice":
                node = f"n{act.amount % len(region.fleet.nodes)}"
                notice = {"type": "notice", "region": name, "nodes": [node], "by": self.now_ms + 100 * act.amount}
                self._send(STATUS, json.dumps(notice).encode(), name, region=name)
            case "nonsense":
                self.nonsense.append(self._send(REQUESTS, NONSENSE[act.which % len(NONSENSE)].encode()))
            case "kill driver":
                self.driver_wire.points.arm(act.amount)
            case "power lost":
                self.driver_wire.points.arm(act.amount)
                self._power_goes = act.which % 2 == 0
            case "kill agent":
                region.wire.points.arm(act.amount)
            case "zombie driver":
                self._overtake()
            case "freeze driver":
                self._until["freeze driver"] = self.round + act.amount
            case "freeze agent":
                self._until[f"freeze {name}"] = self.round + act.amount
            case "cut agent":
                # Every other time too short for the region to count as silent.
                rounds = act.amount if act.which % 2 else act.amount % SHORT_CUT_ROUNDS
                region.wire.cut, self._until[f"cut {name}"] = True, self.round + rounds
            case "cut driver":
                self.driver_wire.cut, self._until["cut driver"] = True, self.round + act.amount
            case "answer lost to driver":
                self.driver_wire.lost_answers += 1
            case "commit unanswered":
                self.driver_wire.lost_commits += 1
            case "answer lost to agent":
                region.wire.lost_answers += 1
            case "checkpoint lost":
                self._new_checkpoint(Checkpoint(f"q{self.round}"))
            case "checkpoint put back" if self._backups:
                self._new_checkpoint(self._backups[act.which % len(self._backups)].copy())
            case "driver clock":
                self._offsets_ms["driver"] = act.amount
            case "agent clock":
                self._offsets_ms[name] = act.amount
            case "node goes" | "node drains":
                node = f"n{act.amount % len(region.fleet.nodes)}"
                self._away[name, node], self._facts_changed = act.what, True
                self._until[f"away {name} {node}"] = self.round + act.amount
            case "price":
                self._prices[name], self._facts_changed = 0.1 + act.amount / 20, True
            case "region gone" if len(self.gone) < len(self.fleets) - 1:
                self.gone.add(name)
                for agent in self.regions:
                    if agent.fleet.region == name:
                        agent.dies()
                        agent.processes.die()
            case "ledger put back" if self._copies:
                self._put_back(act)
            case "agent's file lost":
                region.loses_its_disk()
            case "agent's file put back":
                region.loses_its_disk(self._backup(name))
            case "agent's file another's":
                region.loses_its_disk(self._backup(self.regions[act.amount % len(self.regions)].name))
            case "second agent" | "second agent on a copy":
                other = self._agent(region.fleet, f"{name}-beside-{len(self.regions)}")
                if act.what == "second agent on a copy":
                    region.backs_up(other.folder)
                self.regions.append(other)
            case "stop agent":
                try:
                    region.stops()
                except KilledError:
                    region.dies()
            case "repeated status":
                self._repeat(topic_name(STATUS, PREFIX, name), act)
            case "reports echoed":
                self._echo_behind = 2 + act.which
                for fleet in self.fleets:
                    topic = topic_name(STATUS, PREFIX, fleet.region)
                    self._echoed[topic] = len(self.broker.topics[topic])
            case "repeated events":
                self._repeat(topic_name(ASSIGNMENTS, PREFIX, name), act)
        self._heal_what_is_over()

    def _ask(self, request: dict[str, Any]) -> None:
        self.asked.append((self._send(REQUESTS, json.dumps(request).encode(), request["task_id"]), request))

    def _order(self, act: Act, region: str) -> None:
        """Give an order; every third drain is of a node, and every other one is to be over at a moment."""
        said: dict[str, Any] = {"order": act.what.partition(" ")[0], "who": f"round {self.round}"}
        if act.what in ("drain", "undrain"):
            said["region"] = region
            if act.amount % 3 == 0:
                said["node_id"] = f"n{act.which % len(self.regions[act.which % len(self.regions)].fleet.nodes)}"
            if act.what == "drain" and act.amount % 2:
                said["by"] = self.now_ms + 100 * act.amount
        elif act.what == "move":
            said |= {"task_id": f"t{act.amount % 20}", "region": region}
        else:
            said["tenant"] = "other"
        self._send(CONTROL, json.dumps(said).encode(), said.get("task_id", region))

    def _send(self, contract: Any, value: bytes, key: str = "k", region: str | None = None) -> int:
        topic = topic_name(contract, PREFIX, region)
        self.broker.publish([OutgoingRecord(topic=topic, key=key.encode(), value=value)])
        return len(self.broker.topics[topic]) - 1

    def _deliver_echoes(self) -> None:
        """Deliver once more, some rounds later, what was reported meanwhile, as a mirror that lags does."""
        for topic, told in self._echoed.items():
            new = [_again(record) for record in self.broker.topics[topic][told:]]
            self._echoes.append((self.round + self._echo_behind, new))
        for due, records in self._echoes:
            if due <= self.round:
                self.broker.publish(records)
        self._echoes = [echo for echo in self._echoes if echo[0] > self.round]
        self._echoed = {topic: len(self.broker.topics[topic]) for topic in self._echoed}

    def _repeat(self, topic: str, act: Act) -> None:
        """Deliver some old records once more, as a producer without idempotence, or a mirror, may."""
        log = self.broker.topics[topic]
        if log:
            first = act.amount * len(log) // 60
            self.broker.publish([_again(record) for record in log[first:][:5]])

    def _overtake(self) -> None:
        """Start another driver beside the one that lives, which then takes one more batch before it is gone."""
        old, self.driver = self.driver, None
        with self._driver_lives():
            self._begin_driver()
        if old is not None:
            shared = old.checkpoint
            old.checkpoint = shared.copy()  # its own view of the log, as of a moment ago
            try:
                self._beat_and_batch(old)
                old.placer.tables.step()
            except KilledError:
                if self._power_goes is not None:
                    self._driver_dies()  # of the machine they share
            except Exception:
                pass  # what it may not do is seen in the books

    def _new_checkpoint(self, checkpoint: Checkpoint) -> None:
        self.checkpoint, self.driver, self.host = checkpoint, None, Host()

    def _copy_warehouse(self) -> None:
        """Copy the tables, with what the checkpoint and the agents' files are at that moment."""
        if not any(act.what == PUT_BACK for act in self.history.acts):
            return
        copy = self._backup(f"all-{len(self._copies)}")
        shutil.copytree(self.settings.warehouse.path, copy / "warehouse")
        for region in self.regions:
            region.backs_up(copy / region.name)
        self._copies.append((self.checkpoint.copy(), copy))

    def _put_back(self, act: Act) -> None:
        """Put the tables back as they were: by hand or by a restore, with or without the rest of what was copied."""
        checkpoint, copy = self._copies[act.amount % len(self._copies)]
        shutil.rmtree(self.settings.warehouse.path)
        shutil.copytree(copy / "warehouse", self.settings.warehouse.path)
        if act.which % 2:
            write_put_back(self.settings.warehouse.path, PutBack(made_ms=None, sentence="restored"))
        # Alone, the tables are older than the checkpoint: that is set aside, and everything is read again.
        self._new_checkpoint(checkpoint.copy() if act.which % 3 else Checkpoint(f"q{self.round}"))
        if puts_files_back(act):
            for region in self.regions:
                region.loses_its_disk(copy / region.name)

    def _facts(self) -> WorldFacts:
        if not self._facts_changed:
            return WorldFacts()
        self._facts_changed = False
        nodes = [
            NodeFacts(
                region=fleet.region,
                node_id=NodeId(node.node_id),
                gpu_model="T4",
                spot=False,
                gpus=node.gpus,
                cpus=node.cpus,
                memory_gb=node.memory_gb,
                ready=(fleet.region, node.node_id) not in self._away,
                draining=self._away.get((fleet.region, node.node_id)) == "node drains",
            )
            for fleet in self.fleets
            for node in fleet.nodes.values()
        ]
        prices = {(fleet.region, "T4", False): self._prices.get(fleet.region, 1.0) for fleet in self.fleets}
        return WorldFacts(nodes=nodes, links={}, prices=prices)

    # Healing

    def _heal_what_is_over(self) -> None:
        for region in self.regions:
            region.wire.cut &= not self._is_over(f"cut {region.fleet.region}")
        self.driver_wire.cut &= not self._is_over("cut driver")
        for key in [key for key in self._away if self._is_over(f"away {key[0]} {key[1]}")]:
            del self._away[key]
            self._facts_changed = True

    def _heal(self) -> None:
        """End all trouble, and withdraw every order."""
        if any(act.what in ORDERS for act in self.history.acts):
            self._withdraw_all()
        self._until.clear()
        self._offsets_ms.clear()
        self._heal_what_is_over()
        self._facts_changed = True
        self.driver_wire.points.spare()
        self.driver_wire.lost_answers = self.driver_wire.lost_commits = 0
        self._echoed.clear()
        self._power_goes = None
        for region in self.regions:
            region.wire.points.spare()
            region.wire.lost_answers = 0

    def _withdraw_all(self) -> None:
        for fleet in self.fleets:
            for node in (None, *fleet.nodes):
                lifted = {"order": "undrain", "region": fleet.region} | ({} if node is None else {"node_id": node})
                self._send(CONTROL, json.dumps(lifted).encode(), fleet.region)
        self._send(CONTROL, json.dumps({"order": "release", "tenant": "other"}).encode(), "other")

    def _at_rest(self) -> bool:
        """Whether nothing runs and nothing that could run waits."""
        if self.driver is None or len(self.checkpoint.offsets) - 1 != self.checkpoint.ended:
            return False
        world = self.driver.placer.world
        if not all(world.open_region(fleet.region) for fleet in self.fleets if fleet.region not in self.gone):
            return False  # a region that came and went is used again after its damping only
        live = any(
            task.copies and task.ended is None and len(task.done_copies) < task.spec.replicas
            for task in world.tasks.values()
        )
        return not self.witness.live and not live and self.round > self.history.rounds + 30

    def close(self) -> None:
        """End all lives."""
        for region in self.regions:
            region.dies()


def _again(record: IncomingRecord) -> OutgoingRecord:
    return OutgoingRecord(topic=record.topic, key=record.key, value=record.value, headers=record.headers)


@contextmanager
def played(history: FaultHistory, folder: Path) -> Iterator[Stage]:
    """Play a history in an empty folder; at the end of the block all lives end."""
    stage = Stage(history=history, folder=folder)
    try:
        stage.play()
        yield stage
    finally:
        stage.close()
