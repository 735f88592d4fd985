"""What `place` decides of a micro-batch: fold, plan, rows and events; of one that was committed, what it refused."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import pyarrow as pa

from thalweg.conf.settings import Settings
from thalweg.jobs.microbatch.host import Host
from thalweg.jobs.microbatch.isolation import RecordPlace
from thalweg.jobs.microbatch.outcome import DEAD_LETTERS, BatchId, BatchOutcome, BatchStep, Seconds
from thalweg.jobs.placement import metrics
from thalweg.jobs.placement.again import LookingAgain
from thalweg.jobs.placement.answers import AnswerDesk
from thalweg.jobs.placement.events import Events
from thalweg.jobs.placement.facts import FactsIntake, applied
from thalweg.jobs.placement.fold import Fold, Folded
from thalweg.jobs.placement.judge import Judge
from thalweg.jobs.placement.plan_record import PlanRecorder
from thalweg.jobs.placement.read_back import ReadBack
from thalweg.jobs.placement.settings import plan_settings
from thalweg.jobs.placement.tables import PlaceTables
from thalweg.scheduling.again.proving import rows_of
from thalweg.scheduling.decisions import decide, ordering
from thalweg.scheduling.ids import TaskId
from thalweg.scheduling.live import drains
from thalweg.scheduling.live.live_plan import Plan
from thalweg.scheduling.live.micro_batch import plan
from thalweg.scheduling.liveness.awaited import AwaitedParents
from thalweg.scheduling.liveness.hearing import Hearing, Reached
from thalweg.scheduling.liveness.told import Told
from thalweg.scheduling.pack.packer import Packer
from thalweg.scheduling.passed import has_passed
from thalweg.scheduling.world.facts import WorldFacts
from thalweg.scheduling.world.tasks import Change, Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.broker.publish import OutgoingRecord, Publisher, check_sizes
from thalweg.streams.contract.envelope import content_id
from thalweg.streams.placement.batch_offsets import offsets_digest
from thalweg.streams.placement.event_ids import event_id_of
from thalweg.streams.placement.task_specs import read_spec
from thalweg.sync.ledger.ledger import Ledger, from_rows, to_rows

LEDGER: Final = "ledger"
EVENTS: Final = "events"
EARLIER: Final = "earlier events"
ORDER: Final = (EARLIER, LEDGER, EVENTS, DEAD_LETTERS)
"""The ledger before anybody is told, so that what was told can be read back; and before the ledger goes on, what an
earlier life may have committed without telling anybody."""

_Written = tuple[pa.Table, list[OutgoingRecord], list[OutgoingRecord]]
"""Rows of the ledger, events for regions, ends of tasks."""

log = logging.getLogger("thalweg.place")


@dataclass(slots=True, kw_only=True)
class Placer:
    """One driver's life: the world in memory, the ledger it alone writes, and what a batch means for both."""

    settings: Settings
    ledger: Ledger
    world: World
    publisher: Publisher
    tables: PlaceTables
    facts: Callable[[], WorldFacts]
    """Newest facts read beside the stream, each given once."""
    clock: Callable[[], int]
    packer: Packer
    hearing: Hearing
    host: Host = field(default_factory=Host)
    end_of_batch: Callable[[int], Reached | None] = lambda _: None
    """Up to where a batch reads; None where only its records tell."""
    answers: AnswerDesk | None = None
    """Tells who asked what became of it; None tells nobody."""
    read_back: ReadBack | None = None
    """What regions were told that the ledger does not have; None of a ledger that was never put back."""
    committed: Callable[[int], None] = lambda _: None
    """Told how many rows each commit had."""
    fold: Fold = field(init=False)
    again: LookingAgain = field(init=False)
    told: Told = field(init=False)
    events: Events = field(init=False)
    recorder: PlanRecorder = field(init=False)
    untold: tuple[list[OutgoingRecord], list[OutgoingRecord]] = field(init=False)
    """Events and ends of the ledger's last batch, until this life has said them again."""

    def __post_init__(self) -> None:
        """Put the parts together around one world."""
        prefix, place, world = self.settings.kafka.topic_prefix, self.settings.place, self.world
        self.told = Told(self.hearing, place.accept_timeout_ms)
        self.again = LookingAgain(place=place, looked_ms=self.clock())
        self.events = Events(world=world, prefix=prefix)
        self.recorder = PlanRecorder(world)
        self.fold = Fold(
            prefix=prefix,
            world=world,
            judge=Judge(
                place=place,
                prefix=prefix,
                world=world,
                taken=self.ledger.taken,
                told=self.told,
                requests_of=self.ledger.requests_of,
            ),
            facts=FactsIntake(world=world, fresh=self.facts),
            hearing=self.hearing,
            awaited=AwaitedParents(patience_ms=place.parent_wait_ms),
            isolation=self.host.isolation,
            end_of_batch=self.end_of_batch,
            read_back=self.read_back,
        )
        rows = self.ledger.last_batch
        self.untold = self.events.of(from_rows(rows, read_spec), rows.column("event_id").to_pylist())
        self._note_each(self.told.decided, self.untold[0])

    def decide(self, received: pa.Table, batch: BatchId) -> BatchOutcome:
        """Decide a batch, or say again what was refused of one that the ledger has; first tell what may be untold."""
        earlier = self._to_tell(EARLIER, *self.untold, then=self._all_told)
        outcome = self._outcome(received, batch)
        return replace(outcome, steps={**earlier, **outcome.steps})

    def _outcome(self, received: pa.Table, batch: BatchId) -> BatchOutcome:
        committed = self.ledger.committed_batch(batch.query_id)
        if committed is None or batch.batch_id > committed:
            return self._decided(received, batch)
        if self.ledger.holds(batch.query_id, batch.batch_id, offsets_digest(received)):
            return self._refused_again(received, batch)
        log.warning(
            "the ledger has this batch's id with other records, because the checkpoint is older than the ledger (a "
            "copy that was put back, or a lost write); its records are decided as new, and requests that were "
            "taken before are known by their offsets: nothing is dropped and nothing runs twice",
            extra={"fields": {"batch": batch.batch_id, "ledger_has": committed}},
        )
        return self._decided(received, batch)

    def _decided(self, received: pa.Table, batch: BatchId) -> BatchOutcome:
        now_ms = self.clock()
        offsets = offsets_digest(received)
        plan_id = plan_id_of(batch, offsets)
        folded = self.fold.fold_batch(received, batch.batch_id, now_ms)
        if self.world.orders.drains:
            folded.transitions += self._relieved(batch, now_ms)
        folded.transitions += self._looked_again(batch, now_ms)
        made = self._plan(batch, now_ms)
        if made is not None:
            folded.transitions += applied(self.world, decide.place(self.world, made, plan_id, now_ms))
        rows, events, ends = self._written(folded, batch)

        def note(seconds: Seconds) -> None:
            self._note(made, received, now_ms, len(events))
            if self.read_back is not None and self.fold.read_back is None:
                self.read_back.over()
                self.read_back = None
            if self.answers is not None:
                self.answers.put([*folded.answers, *folded.order_answers])
            if made is not None:
                wanted = plan_settings(self.settings.place)
                record = self.recorder.record(made, plan_id, batch, now_ms, wanted, plan_seconds(seconds))
                self.tables.hand_over_plan(record)

        return BatchOutcome(
            steps={LEDGER: self._to_ledger(rows, batch, offsets), **self._to_tell(EVENTS, events, ends)},
            refused=folded.refused,
            then=note,
        )

    def _refused_again(self, received: pa.Table, batch: BatchId) -> BatchOutcome:
        """Refuse again what a batch that the ledger has may not have said it refused; its rows stand."""
        transitions = from_rows(self.ledger.batch(*batch), read_spec)
        taken = {
            (RecordPlace(row.topic or "", row.topic_partition or 0, row.topic_offset or 0), row.task_id)
            for row in transitions
        }
        submitted = {row.task_id for row in transitions if row.change is Change.SUBMITTED}
        earlier = self.ledger.taken_before(*batch)
        again = self.fold.refused_before(received, taken, submitted, earlier, self.clock())
        return BatchOutcome(steps=self._to_tell(EVENTS, [], again.ends), refused=again.refused)

    def _plan(self, batch: BatchId, now_ms: int) -> Plan | None:
        """Plan, unless this very batch's plan has failed before: its reports may be what ends the trouble.

        What a failed plan has tried on the nodes is not undone, so this driver's life ends; the next one rebuilds the
        world.
        """
        if batch in self.host.unplannable:
            log.error(
                "a batch is taken without a plan, because its plan failed", extra={"fields": {"batch": batch.batch_id}}
            )
            return None
        if self.fold.read_back is not None:
            return None  # what is asked may have been placed, and may have ended
        place = self.settings.place
        deadline = time.perf_counter() + place.plan_deadline_ms / 1000
        wanted = replace(plan_settings(place), remaining_s=lambda: deadline - time.perf_counter())
        try:
            return plan(self.world, wanted, now_ms, place.seed, self.packer)
        except Exception:
            self.host.unplannable.add(batch)
            raise

    def _relieved(self, batch: BatchId, now_ms: int) -> list[Transition]:
        """Empty what is drained a little more, now and then; before the plan, so that nobody takes the places.

        Where it fails, it is left out of this very batch the second time, as a plan is.
        """
        world, place = self.world, self.settings.place
        if batch in self.host.unplannable or not has_passed(world.relieved_ms, now_ms, drains.LOOK_MS):
            return []
        world.relieved_ms = now_ms
        try:
            look = drains.relief(world, plan_settings(place), now_ms, self.packer, most=place.most_moved)
        except Exception:
            self.host.unplannable.add(batch)
            raise
        return applied(world, ordering.relieved(look, now_ms))

    def _looked_again(self, batch: BatchId, now_ms: int) -> list[Transition]:
        """Move what a look at what runs has proposed and what still stands; before the plan, which uses what it frees.

        Where it fails, it is left out of this very batch the second time, as a plan is.
        """
        if batch in self.host.unplannable or self.fold.read_back is not None:
            return []
        try:
            moves = self.again.in_batch(self.world, self.packer, now_ms)
        except Exception:
            self.host.unplannable.add(batch)
            raise
        metrics.LOOKED_AGAIN_MOVES.inc(len(moves))
        return applied(self.world, rows_of(moves, now_ms))

    def _written(self, folded: Folded, batch: BatchId) -> _Written:
        """Make the ledger's rows and the events before either leaves: what is committed can always be published."""

        def write(transitions: list[Transition]) -> _Written:
            ids = [event_id_of(row) for row in transitions]
            rows = to_rows(
                transitions,
                ids,
                query_id=batch.query_id,
                batch_id=batch.batch_id,
                driver_epoch=self.ledger.driver_epoch,
            )
            events, ends = self.events.of(transitions, ids)
            check_sizes([*events, *ends])
            return rows, events, ends

        try:
            rows, events, ends = write(folded.transitions)
            return rows, events, [*ends, *folded.ends]
        except Exception:
            if not self.host.isolation.blame(folded.of_records, write):
                self.host.unplannable.add(batch)  # no record is to blame, so the plan is
            raise

    def _to_ledger(self, rows: pa.Table, batch: BatchId, offsets: int) -> BatchStep:
        if not rows.num_rows:
            return BatchStep(act=self.ledger.check_driver)  # a batch without a commit has no other fence
        return BatchStep(
            act=lambda: self.ledger.commit(rows, *batch, offsets),
            done=lambda: self.ledger.has_taken(*batch, offsets),
            then=lambda: self._committed(rows),
            target="the ledger",
        )

    def _committed(self, rows: pa.Table) -> None:
        self.tables.hand_over(rows)
        self.committed(rows.num_rows)

    def _to_tell(
        self,
        step: str,
        events: Sequence[OutgoingRecord],
        ends: Sequence[OutgoingRecord],
        then: Callable[[], None] = lambda: None,
    ) -> Mapping[str, BatchStep]:
        """Tell the regions what to do, and who waits of the tasks that are over."""
        if not (events or ends):
            return {}

        def acknowledged() -> None:
            self._note_each(self.told.note, events)
            then()

        target = "the regions' assignment topics and the results"
        told = [*events, *ends]
        return {step: BatchStep(act=lambda: self.publisher.publish(told), then=acknowledged, target=target)}

    def _all_told(self) -> None:
        self.untold = [], []

    @staticmethod
    def _note_each(note: Callable[[str, TaskId], None], events: Sequence[OutgoingRecord]) -> None:
        for event in events:
            if event.key is not None:
                note(event.topic, TaskId(event.key.decode()))

    def _note(self, made: Plan | None, received: pa.Table, now_ms: int, events: int) -> None:
        metrics.EVENTS.inc(events)
        metrics.WAITING_TASKS.set(len(self.world.waiting))
        metrics.DELAY_USD_PER_HOUR.set(self.world.waiting.delay_usd_per_hour(now_ms))
        if made is not None:
            metrics.PLAN_GAP.set(made.gap)
        if received.num_rows:
            oldest = min(received.column("timestamp_ms").to_pylist())
            metrics.RECORD_LAG.set(max(now_ms - oldest, 0) / 1000)


def plan_id_of(batch: BatchId, offsets: int) -> str:
    """Id of a batch's plan: a replay of the batch gives the same, other records under its id another."""
    return content_id(*batch, offsets)[:16]


def plan_seconds(seconds: Seconds) -> dict[str, float]:
    """Name a batch's parts as the columns of `plans` do."""
    return {
        "read": seconds["read"],
        "plan": seconds["decide"],
        "commit": seconds[LEDGER],
        "publish": seconds.get(EVENTS, 0.0) + seconds.get(DEAD_LETTERS, 0.0),
    }
