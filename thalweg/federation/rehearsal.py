"""A centre, regions and a broker in one process, and death at any point: the proof that each round counts exactly once.

The centre is the job's own `Federator` under the micro-batch of all jobs. What outlives a process is here what
outlives it there: the broker's topics, the ledger and the store of payloads. Everything that could be the last thing
that happens is a point: before and after each payload, commit, record and deletion. A plan of deaths names some of
them, by number.
"""

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from thalweg.federation.operator import start_run
from thalweg.federation.participant import Participant, Train, Trained
from thalweg.jobs.federation.federator import ORDER, Federator
from thalweg.jobs.federation.ledger import LearningLedger
from thalweg.jobs.microbatch.dead_letters import DeadLetters
from thalweg.jobs.microbatch.isolation import Isolation
from thalweg.jobs.microbatch.microbatch import Microbatch
from thalweg.jobs.microbatch.outcome import BatchId
from thalweg.jobs.runtime.job import Stop
from thalweg.learning.rounds.facts import Fact, FactKind
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.learning.secrecy.signatures import SigningKey, verify
from thalweg.learning.vectors.parameters import Vector
from thalweg.streams.broker.memory import MemoryBroker, MemoryReader
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.contract.messages import ModelState
from thalweg.streams.contract.topics import DEADLETTER, MODELS, REQUESTS, UPDATES, topic_name, topic_pattern
from thalweg.streams.learning.payloads import PayloadStore
from thalweg.streams.learning.updates import OPERATORS

PREFIX: Final = "rehearsal"
REGIONS: Final = ("aws:eu-west-1", "gcp:us-central1")
MODEL: Final = "m"
BEGAN_MS: Final = 1_790_000_000_000
MOST_TURNS: Final = 2_000
"""Turns of all after which a rehearsal hangs."""
MOST_NONSENSE: Final = 200
"""Records of it: a centre whose luck it is to take one record at a time falls behind whoever writes without end."""


class PlannedDeathError(BaseException):
    """The process is gone: no `except Exception` sees it."""


@dataclass(slots=True, kw_only=True)
class Deaths:
    """Kills at the points of these numbers; counts all that are passed."""

    at: frozenset[int] = frozenset()
    passed: int = 0

    def point(self) -> None:
        """Pass a point, or die there."""
        self.passed += 1
        if self.passed in self.at:
            raise PlannedDeathError


@dataclass(slots=True, kw_only=True)
class MemoryLedger:
    """Facts in a list, which outlives a centre."""

    deaths: Deaths
    facts: list[Fact] = field(default_factory=list)

    def read(self) -> list[Fact]:
        """Return all facts."""
        return list(self.facts)

    def append(self, facts: Sequence[Fact], first_number: int) -> None:
        """Add facts, all at once."""
        self.deaths.point()
        if first_number != len(self.facts) + 1:
            raise AssertionError(f"fact {first_number} follows fact {len(self.facts)}")
        self.facts += facts
        self.deaths.point()

    def holds(self, number: int) -> bool:
        """Tell whether the fact of this number is there."""
        return len(self.facts) >= number

    def tidy(self) -> None:
        """Do nothing."""


class DeadlyStore(PayloadStore):
    """The store of payloads, with a point before each file and after the last."""

    def __init__(self, place: str, deaths: Deaths) -> None:
        super().__init__(place)
        self._deaths = deaths

    def put(self, payloads: Iterable[bytes]) -> None:
        """Write payloads, one after another."""
        for raw in list(payloads):
            self._deaths.point()
            super().put([raw])
        self._deaths.point()

    def drop(self, names: Iterable[str]) -> None:
        """Delete payloads, one after another."""
        for name in names:
            self._deaths.point()
            super().drop([name])


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlyPublisher:
    """The broker as somebody writes to it who may die between any two records."""

    broker: MemoryBroker
    deaths: Deaths

    def publish(self, records: Sequence[OutgoingRecord]) -> None:
        """Write records, one after another."""
        for record in records:
            self.deaths.point()
            self.broker.publish([record])
        self.deaths.point()

    def close(self) -> None:
        """Do nothing; the records stay."""


class RehearsalStage:
    """Everything that outlives a process, and the clock."""

    def __init__(self, folder: str, deaths: Deaths | None = None, ledger: LearningLedger | None = None) -> None:
        """Set up.

        Args:
            folder: where payloads are put.
            deaths: of the centre and of participants; None for none.
            ledger: None for one in memory.
        """
        self.now_ms = BEGAN_MS
        self.deaths = deaths or Deaths()
        self.folder = folder
        self.broker = MemoryBroker(clock=self.clock)
        self.broker.create([topic_name(contract, PREFIX) for contract in (MODELS, REQUESTS, DEADLETTER)])
        self.broker.create([topic_name(UPDATES, PREFIX, region) for region in (OPERATORS, *REGIONS)])
        self.ledger = ledger if ledger is not None else MemoryLedger(deaths=self.deaths)
        self.store = DeadlyStore(folder, self.deaths)
        self.publisher = DeadlyPublisher(broker=self.broker, deaths=self.deaths)
        self.secret = b"of the stage"

    def clock(self) -> int:
        """Tell the time, which only the test moves."""
        return self.now_ms

    def start(self, spec: RunSpec, initial: Vector, model: str = MODEL, asked: Sequence[str] = ()) -> None:
        """Ask for a run."""
        start_run(
            model,
            spec,
            initial,
            publisher=self.broker,
            topic_prefix=PREFIX,
            now_ms=self.now_ms,
            store=PayloadStore(self.folder),
            inline_bytes=256,
            asked=asked,
        )

    def participant(self, name: str, region: str, train: Train, key: SigningKey | None = None) -> Participant:
        """Make one life of a participant."""
        return Participant(
            model=MODEL,
            name=name,
            region=region,
            train=train,
            reader=MemoryReader(self.broker, topics=[topic_name(MODELS, PREFIX)]),
            publisher=self.publisher,
            topic_prefix=PREFIX,
            clock=self.clock,
            store=PayloadStore(self.folder),
            inline_bytes=256,
            key=key,
        )

    def say(self, region: str, *values: bytes | None) -> None:
        """Write what anybody may write to a region's topic."""
        topic = topic_name(UPDATES, PREFIX, region)
        self.broker.publish([OutgoingRecord(topic=topic, key=b"k", value=value) for value in values])


class RehearsedCentre:
    """One life of the job, step by step."""

    def __init__(self, stage: RehearsalStage, most_records: int = 1_000) -> None:
        """Begin from what is committed.

        Args:
            stage: what outlives it.
            most_records: of a batch.
        """
        self.stage = stage
        self.federator = Federator(
            ledger=stage.ledger,
            store=stage.store,
            publisher=stage.publisher,
            topic_prefix=PREFIX,
            inline_bytes=256,
            verify=verify,
            secret=stage.secret,
            clock=stage.clock,
            isolation=Isolation(),
        )
        self.reader = MemoryReader(
            stage.broker,
            pattern=topic_pattern(UPDATES, PREFIX),
            start=self.federator.next_offset,
            max_records=most_records,
        )
        self._heard_ms = self._number = 0
        self._batches = Microbatch(
            job="federate",
            order=ORDER,
            read=lambda *_: [],
            decide=lambda records, batch: self.federator.decide(records, self._heard_ms, batch),
            dead_letters=DeadLetters(PREFIX, lambda: stage.publisher),
            stop=Stop(),
        )
        self.federator.tell_all()

    def step(self) -> int:
        """Take a batch, and return how many records it had."""
        records = self.reader.poll(0)
        if all(self.reader.position(*place) >= end for place, end in self.reader.end_offsets().items()):
            self._heard_ms = self.stage.now_ms
        self._number += 1
        self._batches.run(records, BatchId("federate", self._number))
        return len(records)

    def settle(self) -> None:
        """Take batches until nothing is left."""
        while self.step():
            pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """How one went."""

    final_sha256: str
    versions: tuple[str, ...]
    """Digest of each version, in order."""
    deaths: int
    points: int
    """Points that were passed, the deadly ones included."""
    refused: int
    facts: tuple[Fact, ...]


def moved(name: str) -> Train:
    """Training that depends on the participant, the round and the version, and on nothing else."""
    own = float(sum(name.encode()))

    def train(vector: Vector, state: ModelState) -> Trained:
        noise = np.random.default_rng([int(own), state.round]).standard_normal(vector.size)
        after = (vector * np.float32(0.5) + noise).astype(np.float32)
        return Trained(parameters=after, samples=1 + int(own) % 7, metrics={"loss": float(noise[0])})

    return train


def key_of(name: str) -> SigningKey:
    """Return the key that a participant has in all its lives."""
    return SigningKey(hashlib.sha256(name.encode()).digest())


def rehearse(folder: str, spec: RunSpec, participants: int, seed: int, deaths: frozenset[int]) -> Rehearsed:
    """Carry a run out while centre and participants die as planned, and somebody writes what must change nothing.

    Args:
        folder: empty; for payloads.
        spec: with `begin_with` all participants, so that who takes part is no matter of luck.
        participants: how many.
        seed: who acts when, in batches of what size; and which nonsense is written.
        deaths: numbers of the points at which whoever is there dies.

    Raises:
        AssertionError: it hangs.
    """
    plan = Deaths(at=deaths)
    stage = RehearsalStage(folder, plan)
    luck = random.Random(seed)
    stage.start(spec, np.zeros(spec.size, np.float32))
    names = [f"p{index}" for index in range(participants)]
    cast = _Cast(stage, names, luck, keys=spec.secrecy is not None)
    for _ in range(MOST_TURNS):
        cast.act()
        if any(fact.kind is FactKind.ENDED for fact in stage.ledger.read()):
            break
    else:
        raise AssertionError(f"seed {seed}: the run has not ended after {MOST_TURNS} turns")
    cast.settle()
    facts = stage.ledger.read()
    versions = tuple(fact.sha256 for fact in facts if fact.kind is FactKind.CLOSED)
    return Rehearsed(
        final_sha256=versions[-1],
        versions=versions,
        deaths=cast.deaths,
        points=plan.passed,
        refused=sum(fact.kind is FactKind.REFUSED for fact in facts),
        facts=tuple(facts),
    )


class _Cast:
    """Who acts; whoever dies is made anew the next time it is their turn."""

    def __init__(self, stage: RehearsalStage, names: Sequence[str], luck: random.Random, *, keys: bool) -> None:
        self._stage = stage
        self._names = names
        self._luck = luck
        self._keys = {name: key_of(name) if keys else None for name in names}
        self._centre: RehearsedCentre | None = None
        self._living: dict[str, Participant] = {}
        self._nonsense = self._write_nonsense()
        self.deaths = 0

    def act(self) -> None:
        """Let somebody act, by chance."""
        who = self._luck.choice(["centre", "nobody", *self._names])
        try:
            if who == "centre":
                if self._centre is None:
                    self._centre = RehearsedCentre(self._stage, most_records=self._luck.randint(1, 9))
                self._centre.step()
            elif who == "nobody":
                next(self._nonsense, None)
            else:
                self._take_part(who)
        except PlannedDeathError:
            self.deaths += 1
            if who == "centre":
                self._centre = None
            else:
                self._living.pop(who, None)

    def _take_part(self, name: str) -> None:
        participant = self._living.get(name)
        if participant is None:
            region = REGIONS[sum(name.encode()) % len(REGIONS)]
            participant = self._stage.participant(name, region, moved(name), self._keys[name])
            participant.join()
            self._living[name] = participant
        participant.step(0)

    def settle(self) -> None:
        """Let the centre read all that was written."""
        while True:
            try:
                self._centre = self._centre or RehearsedCentre(self._stage)
                self._centre.settle()
                return
            except PlannedDeathError:
                self.deaths += 1
                self._centre = None

    def _write_nonsense(self) -> Iterator[None]:
        """Repetitions of what was said, in part or under another name, and what is no message at all."""
        for _ in range(MOST_NONSENSE):
            region = self._luck.choice(REGIONS)
            said = self._stage.broker.topics[topic_name(UPDATES, PREFIX, region)]
            record = self._luck.choice(said) if said else None
            raw = record.value if record is not None and record.value is not None else b"{}"
            kind = self._luck.randrange(4)
            if kind == 0:
                self._stage.say(region, raw)
            elif kind == 1:
                self._stage.say(region, raw[: self._luck.randrange(len(raw) + 1)])
            elif kind == 2:
                self._stage.say(self._luck.choice(REGIONS), raw.replace(b'"p', b'"stranger'))
            else:
                self._stage.say(region, None)
            yield


def planned(points: int, seed: int, most: int = 4) -> frozenset[int]:
    """Choose points to die at, of a rehearsal that passed so many: at least one."""
    luck = random.Random(f"deaths {seed}")
    return frozenset(luck.randrange(1, points + 1) for _ in range(luck.randint(1, most)))
