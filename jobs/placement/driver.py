"""One driver's life put together: what decides, what it is told beside the stream, and what follows the ledger."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

from thalweg.conf.settings import Settings
from thalweg.jobs.microbatch.dead_letters import DeadLetters
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.placement.again import LOOK_POLL_S
from thalweg.jobs.placement.answers import EVERY_S, AnswerDesk
from thalweg.jobs.placement.edge import BrokerEdge
from thalweg.jobs.placement.facts import FactsReader
from thalweg.jobs.placement.placer import Placer
from thalweg.jobs.placement.put_back import find_read_back
from thalweg.jobs.placement.snapshots import SnapshotKeeper
from thalweg.jobs.placement.tables import PlaceTables
from thalweg.jobs.runtime.background import run_in_background
from thalweg.jobs.runtime.job import Stop
from thalweg.scheduling.liveness.hearing import BEAT_MS
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.world import World
from thalweg.streams.broker.lag import end_of_batch
from thalweg.streams.broker.past import KafkaPast
from thalweg.streams.broker.publish import KafkaPublisher
from thalweg.streams.contract.envelope import content_id
from thalweg.sync.ledger.ledger import Ledger
from thalweg.sync.tables.world_tables import WorldTables


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A ledger that was claimed, the world it leads to, and who decides for them."""

    settings: Settings
    placer: Placer
    facts: FactsReader
    edge: BrokerEdge
    snapshots: SnapshotKeeper
    answers: AnswerDesk

    @classmethod
    def of(
        cls,
        settings: Settings,
        ledger: Ledger,
        world: World,
        tables: PlaceTables,
        snapshots: SnapshotKeeper,
        *,
        checkpoint: str,
        clock: Callable[[], int],
        host: Host,
    ) -> Self:
        """Put a driver together; what the tables say of places is read here, so that its first batch knows it.

        Args:
            settings: everything.
            ledger: claimed.
            world: as the ledger's rows make it.
            tables: that follow the ledger.
            snapshots: of the world, kept for the next start.
            checkpoint: the query's: up to where a batch reads.
            clock: the wall clock.
            host: what earlier lives have left.
        """
        warehouse = settings.warehouse.path
        facts = FactsReader(WorldTables(warehouse, settings.place.node_timeout_ms))
        facts.read()
        edge = BrokerEdge.open(settings, clock, life=content_id("place", warehouse, ledger.driver_epoch, clock()))
        answers = AnswerDesk(
            settings.kafka.topic_prefix,
            lambda: KafkaPublisher(settings.kafka, client_id="thalweg-place-answers", keeps_topics=True),
        )
        read_back = find_read_back(
            warehouse,
            world,
            ledger.last_batch,
            edge.hearing.start,
            settings.kafka.topic_prefix,
            KafkaPast(settings.kafka),
        )
        placer = Placer(
            settings=settings,
            ledger=ledger,
            world=world,
            publisher=edge.publisher,
            tables=tables,
            facts=facts.drain,
            clock=clock,
            packer=Packer(world.nodes),
            hearing=edge.hearing,
            host=host,
            read_back=read_back,
            committed=snapshots.note,
            end_of_batch=partial(end_of_batch, checkpoint),
            answers=answers,
        )
        return cls(settings=settings, placer=placer, facts=facts, edge=edge, snapshots=snapshots, answers=answers)

    def dead_letters(self) -> DeadLetters:
        """Where refused records go: through the same connection as the events."""
        return DeadLetters(self.settings.kafka.topic_prefix, lambda: self.edge.publisher)

    def run_beside(self, stop: Stop) -> None:
        """Start what never stands in front of a batch: the tables that follow the ledger, the facts, the heartbeats."""
        edge, world_every_s = self.edge, self.settings.place.world_every_ms / 1000
        self.placer.tables.start(self.placer.ledger)
        self.snapshots.start()
        run_in_background("place-facts", self.facts.read, every_s=world_every_s, stop=stop, close=edge.close_reader)
        if self.settings.place.look_again_every_s:
            run_in_background("place-again", self.placer.again.look, every_s=LOOK_POLL_S, stop=stop)
        run_in_background("place-answers", self.answers.tell, every_s=EVERY_S, stop=stop, close=self.answers.close)
        run_in_background("place-heartbeat", edge.beats.step, every_s=BEAT_MS / 1000, stop=stop, close=edge.beats.close)
