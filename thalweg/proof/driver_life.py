"""The place job's lives without Spark: the real micro-batch on a real ledger, given batches as Spark gives them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import pyarrow as pa

from thalweg.conf.settings import Settings
from thalweg.jobs.microbatch.dead_letters import DeadLetters
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.microbatch.microbatch import Microbatch
from thalweg.jobs.microbatch.outcome import BatchId, BatchOutcome, BatchStep
from thalweg.jobs.placement.edge import input_pattern
from thalweg.jobs.placement.heartbeat import heartbeat
from thalweg.jobs.placement.placer import LEDGER, ORDER, Placer
from thalweg.jobs.placement.put_back import find_read_back
from thalweg.jobs.placement.recovery import recover
from thalweg.jobs.placement.tables import PlaceTables
from thalweg.jobs.runtime.job import Stop
from thalweg.proof.wire import Wire, WirePast
from thalweg.scheduling.liveness.hearing import Hearing, Sounding
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.facts import WorldFacts
from thalweg.streams.broker.range_reader import SCHEMA
from thalweg.streams.contract.topics import ASSIGNMENTS, topic_pattern
from thalweg.sync.ledger.ledger import Ledger

QUERY: Final = "q"


class NeverWaits(Stop):
    """Asked to stop as soon as something has to be waited for: the batch ends, and its next life takes it again."""

    def wait(self, seconds: float) -> bool:
        """Ask at once."""
        return True


class WaitsTwice(Stop):
    """Asked to stop at the third wait of a life: a step is tried again before its life ends."""

    def __init__(self) -> None:
        """Have not waited yet."""
        super().__init__()
        self._waits = 2

    def wait(self, seconds: float) -> bool:
        """Count."""
        self._waits -= 1
        return self._waits < 0


@dataclass(slots=True)
class Checkpoint:
    """What Spark keeps of a query: the offsets of each batch before it is taken, and which batches have ended."""

    query_id: str = QUERY
    offsets: list[Mapping[str, int]] = field(default_factory=list)
    ended: int = -1

    def copy(self) -> "Checkpoint":
        """Copy it, as a backup does."""
        return Checkpoint(self.query_id, list(self.offsets), self.ended)


@dataclass(slots=True, kw_only=True)
class DriverLife:
    """One life: the world in memory, the ledger claimed."""

    settings: Settings
    wire: Wire
    checkpoint: Checkpoint
    clock: Callable[[], int]
    steady: Callable[[], int]
    facts: Callable[[], WorldFacts]
    host: Host
    life: str
    placer: Placer = field(init=False)
    batches: Microbatch[pa.Table] = field(init=False)

    def __post_init__(self) -> None:
        """Begin as `jobs.place.start` does: claim the ledger, and make the world it leads to."""
        warehouse, place, stop = self.settings.warehouse.path, self.settings.place, NeverWaits()
        reach = self.wire.points.reach
        reach("start")
        ledger = Ledger.claim(warehouse)
        reach("claimed")
        tables = PlaceTables(warehouse, place.folds_every_ms, 0, stop)
        world = recover(ledger, warehouse, {}, self.clock())
        reach("rebuilt")
        hearing = Hearing(
            timeout_ms=place.heartbeat_timeout_ms,
            life=self.life,
            start=Sounding(number=0, made_ms=self.steady(), ends=self.wire.ends()),
        )
        prefix = self.settings.kafka.topic_prefix
        read = {name: ends for name, ends in hearing.start.items() if self._is_read(name)}
        read_back = find_read_back(warehouse, world, ledger.last_batch, read, prefix, WirePast(self.wire))
        self.placer = Placer(
            settings=self.settings,
            ledger=ledger,
            world=world,
            publisher=self.wire,
            tables=tables,
            facts=self.facts,
            clock=self.clock,
            packer=Packer(world.nodes),
            hearing=hearing,
            read_back=read_back,
            host=self.host,
            end_of_batch=self._end_of_batch,
        )
        self.batches = Microbatch(
            job="place",
            order=ORDER,
            read=lambda frame, _: frame,  # batches are taken with their records
            decide=self._decide,
            dead_letters=DeadLetters(self.settings.kafka.topic_prefix, lambda: self.wire),
            stop=WaitsTwice(),
        )

    def beat(self) -> None:
        """Take a sounding and say so (`jobs.placement.heartbeat`)."""
        hearing = self.placer.hearing
        number = hearing.begin()
        hearing.sounded(Sounding(number=number, made_ms=self.steady(), ends=self.wire.ends()))
        self.wire.publish([heartbeat(self.settings.kafka.topic_prefix, self.clock(), hearing.life, number)])

    def batch(self) -> None:
        """Take the batch that did not end, else a new one of all that came since.

        Raises:
            Exception: what ends this life of the query.
        """
        kept = self.checkpoint
        if len(kept.offsets) - 1 == kept.ended:
            ends = {name: len(self.wire.broker.topics[name]) for name in self._topics()}
            if kept.offsets and kept.offsets[-1] == ends:
                return
            self.wire.points.reach("offsets")
            kept.offsets.append(ends)
        number = len(kept.offsets) - 1
        self.wire.points.reach("read")
        self.batches.run(self._records(number), BatchId(kept.query_id, number))
        self.wire.points.reach("ended")
        kept.ended = number

    def _is_read(self, name: str) -> bool:
        """Whether the job looks at a topic: those of a batch, and the regions' assignments."""
        prefix = self.settings.kafka.topic_prefix
        return name in self._topics() or re.fullmatch(topic_pattern(ASSIGNMENTS, prefix), name) is not None

    def _topics(self) -> list[str]:
        prefix = self.settings.kafka.topic_prefix
        read = re.compile(input_pattern(prefix))
        return sorted(name for name in self.wire.broker.topics if read.fullmatch(name))

    def _records(self, number: int) -> pa.Table:
        kept = self.checkpoint.offsets
        before: Mapping[str, int] = kept[number - 1] if number else {}
        rows = [
            (record.topic, 0, record.offset, record.timestamp_ms, record.key, record.value)
            for name, end in sorted(kept[number].items())
            for record in self.wire.broker.topics[name][before.get(name, 0) : end]
        ]
        return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)

    def _end_of_batch(self, number: int) -> Mapping[tuple[str, int], int] | None:
        kept = self.checkpoint.offsets
        return {(name, 0): end for name, end in kept[number].items()} if number < len(kept) else None

    def _decide(self, received: pa.Table, batch: BatchId) -> BatchOutcome:
        outcome = self.placer.decide(received, batch)
        self.wire.points.reach("decided")
        return replace(outcome, steps={name: self._mortal(name, step) for name, step in outcome.steps.items()})

    def _mortal(self, name: str, step: BatchStep) -> BatchStep:
        """Let the process die before the step, after it, and after what follows from it."""
        reach = self.wire.points.reach

        def act() -> object:
            reach(f"before {name}")
            answer = step.act()
            reach(f"after {name}")
            if name == LEDGER and self.wire.lost_commits:
                self.wire.lost_commits -= 1
                raise OSError("the store does not answer")
            return answer

        return replace(step, act=act)
