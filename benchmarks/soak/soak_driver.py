"""One life of the place job without Spark and broker, in one thread: its batches, and what else it does in its turn.

Everything is the product's: the placer, the ledger on the disk, the tables that follow it with their upkeep, the
snapshot (a process of its own, as live), the answers, and of `maintain` the round and the account.
"""

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa

from thalweg.benchmarks.soak.passing_time import PassingTime
from thalweg.benchmarks.soak.steady_regions import PREFIX, SteadyRegions, fleet, prices
from thalweg.conf.settings import PlaceSettings, Settings, WarehouseSettings
from thalweg.jobs.accounting.account import AccountKeeper
from thalweg.jobs.maintain import Audit, maintain
from thalweg.jobs.microbatch.dead_letters import DeadLetters
from thalweg.jobs.microbatch.microbatch import Microbatch
from thalweg.jobs.microbatch.outcome import BatchId
from thalweg.jobs.placement.answers import AnswerDesk
from thalweg.jobs.placement.heartbeat import heartbeat
from thalweg.jobs.placement.placer import ORDER, Placer
from thalweg.jobs.placement.recovery import recover
from thalweg.jobs.placement.snapshots import SnapshotKeeper
from thalweg.jobs.placement.tables import PlaceTables
from thalweg.jobs.runtime.garbage import BATCHES_BETWEEN, LOOK_AT_ALL_AFTER
from thalweg.jobs.runtime.job import Stop
from thalweg.scheduling.liveness.hearing import BEAT_MS, Hearing, Sounding
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.world.facts import WorldFacts
from thalweg.sync.ledger.ledger import Ledger

QUERY: Final = "soak"
LIFE: Final = "soak"
FOLD_EVERY: Final = 10
"""Batches between two folds: live, two seconds."""
PRICES_EVERY: Final = 50
"""Batches between two changes of the prices."""


class NeverPauses(Stop):
    """Lets upkeep go on without the pauses that it makes for a stream beside it."""

    def wait(self, seconds: float) -> bool:
        """Go on at once."""
        return self.asked()


@dataclass(slots=True, kw_only=True)
class SoakDriver:
    """See the module's words."""

    warehouse: Path
    regions: SteadyRegions
    time: PassingTime
    seconds_per_batch: float
    upkeep_every: int
    snapshot_every_rows: int
    placer: Placer = field(init=False)
    _tables: PlaceTables = field(init=False)
    _snapshots: SnapshotKeeper = field(init=False)
    _answers: AnswerDesk = field(init=False)
    _account: AccountKeeper = field(init=False)
    _audit: Audit = field(init=False)
    _batches: Microbatch[pa.Table] = field(init=False)
    _received: pa.Table | None = None
    _facts: WorldFacts = field(default_factory=fleet)
    _taken: int = 0
    _stop: Stop = field(default_factory=NeverPauses)

    def __post_init__(self) -> None:
        """Begin as `jobs.place.start` does."""
        settings, warehouse, clock = self._settings(), str(self.warehouse), self.time.read
        place, ledger = settings.place, Ledger.claim(warehouse)
        self._tables = PlaceTables(
            warehouse, place.folds_every_ms, place.compact_every_s, self._stop, archive_after_s=place.archive_after_s
        )
        self._tables.look_after(ledger)
        self._snapshots = SnapshotKeeper(
            warehouse, every_rows=place.snapshot_every_rows, every_s=place.snapshot_every_s, stop=Stop()
        )
        self._answers = AnswerDesk(PREFIX, lambda: self.regions)
        self._account = AccountKeeper(warehouse, clock, self._stop)
        self._audit = Audit(warehouse, clock, self._stop)
        world = recover(ledger, warehouse, {}, clock())
        self.placer = Placer(
            settings=settings,
            ledger=ledger,
            world=world,
            publisher=self.regions,
            tables=self._tables,
            facts=self._new_facts,
            clock=clock,
            packer=Packer(world.nodes),
            hearing=Hearing(timeout_ms=place.heartbeat_timeout_ms, life=LIFE),
            answers=self._answers,
            committed=self._snapshots.note,
        )
        self._batches = Microbatch(
            job="place",
            order=ORDER,
            read=lambda frame, _: frame.records,
            decide=self.placer.decide,
            dead_letters=DeadLetters(PREFIX, lambda: self.regions),
            stop=self._stop,
        )

    def _settings(self) -> Settings:
        """The product's own, but that what live comes every minute comes every so many batches."""
        upkeep_s = self.upkeep_every * self.seconds_per_batch
        place = PlaceSettings(
            compact_every_s=int(upkeep_s),
            look_again_every_s=upkeep_s,
            snapshot_every_rows=self.snapshot_every_rows,
            snapshot_every_s=1e9,  # after so many rows, never after so long
        )
        return Settings(warehouse=WarehouseSettings(path=str(self.warehouse)), place=place)

    def _new_facts(self) -> WorldFacts:
        facts, self._facts = self._facts, WorldFacts()
        return facts

    def prepare(self) -> int:
        """Let time pass and records come for the next batch; return how many."""
        self.time.passes(self.seconds_per_batch)
        hearing, now_ms = self.placer.hearing, self.time.now_ms
        number = hearing.begin()
        made_ms = self._taken * BEAT_MS
        hearing.sounded(Sounding(number=number, made_ms=made_ms, ends=self.regions.ends()))
        self.regions.publish([heartbeat(PREFIX, now_ms, LIFE, number)])
        if self._taken and self._taken % PRICES_EVERY == 0:
            self._facts = WorldFacts(prices=prices(self._taken // PRICES_EVERY))
        self._received = self.regions.next_batch(now_ms)
        return int(self._received.num_rows)

    def take(self) -> None:
        """Take the batch that was prepared, as it would be in front of people's assignments."""
        assert self._received is not None
        self._batches.run(self._received, BatchId(QUERY, self._taken))
        self._taken += 1

    def look_after(self) -> None:
        """Do what stands beside the stream and is due now."""
        self._collect()
        self._answers.tell()
        self.placer.again.look()
        if self._taken % FOLD_EVERY == 0:
            self._tables.step()
            self._account.step()
            self._snapshots.step()
        if self._taken % self.upkeep_every == 0:
            self._tables.tidy_plans()
            for one in maintain(str(self.warehouse)):
                if one.error is not None:
                    raise RuntimeError(f"{one.table} could not be looked after: {one.error}")
                if one.removed_files:
                    self._audit.record("sweep", one.table, "done", one.removed_files)
            self._audit.tidy()
            self._account.tidy()

    def _collect(self) -> None:
        """Look for garbage as `jobs.runtime.garbage` does between batches."""
        if self._taken % BATCHES_BETWEEN == 0:
            if self._taken % LOOK_AT_ALL_AFTER < BATCHES_BETWEEN:
                gc.unfreeze()
            gc.collect()
            gc.freeze()

    def counts(self) -> Mapping[str, int]:
        """Say how large what is held in memory is."""
        world = self.placer.world
        return {"tasks_in_memory": len(world.tasks), "waiting": len(world.waiting)}
