"""One life of `place` without Spark: a real `Placer` in the one micro-batch, given its records by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

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
from thalweg.streams.broker.publish import Publisher
from thalweg.sync.ledger.ledger import Ledger
from thalweg.sync.tables.world_tables import WorldFacts


@dataclass(slots=True, kw_only=True)
class Driver:
    """Takes batches until something is final; then begin another one."""

    placer: Placer
    stop: Stop
    batches: Microbatch[pa.Table] = field(init=False)

    def __post_init__(self) -> None:
        self.batches = Microbatch(
            job="place",
            order=ORDER,
            read=lambda frame, _: frame.records,
            decide=self.placer.decide,
            dead_letters=DeadLetters(self.placer.settings.kafka.topic_prefix, lambda: self.placer.publisher),
            stop=self.stop,
        )

    @classmethod
    def of(
        cls,
        *,
        settings: Settings,
        ledger: Ledger,
        publisher: Publisher,
        facts: Callable[[], WorldFacts],
        clock: Callable[[], int],
        stop: Stop,
        host: Host,
    ) -> Self:
        """Begin a life as `jobs.place.start` does: the world is what the ledger says."""
        tables = PlaceTables(settings.warehouse.path, 1_000, 0, stop)
        world = recover(ledger, settings.warehouse.path, {}, clock())
        placer = Placer(
            settings=settings,
            ledger=ledger,
            world=world,
            publisher=publisher,
            tables=tables,
            facts=facts,
            clock=clock,
            packer=Packer(world.nodes),
            hearing=Hearing(timeout_ms=settings.place.heartbeat_timeout_ms),
            host=host,
        )
        return cls(placer=placer, stop=stop)

    def take(self, received: pa.Table, query_id: str, batch_id: int) -> None:
        """Take one batch."""
        self.batches.run(received, BatchId(query_id, batch_id))
