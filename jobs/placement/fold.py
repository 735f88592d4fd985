"""Folding a batch into the world: facts, then its records one by one, then the regions that have fallen silent."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from thalweg.jobs.microbatch.isolation import Indigestible, Isolation, RecordPlace
from thalweg.jobs.placement.answers import answer_to
from thalweg.jobs.placement.facts import FactsIntake, applied
from thalweg.jobs.placement.heartbeat import CONTROL_REGION
from thalweg.jobs.placement.judge import Judge
from thalweg.jobs.placement.refusals import place_of, position_of, refused_record
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.live import decide
from thalweg.scheduling.liveness.hearing import Hearing, Reached
from thalweg.scheduling.world.tasks import Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.broker.deadletter import RefusedRecord
from thalweg.streams.contract.messages import Answer
from thalweg.streams.contract.topics import STATUS, topic_name
from thalweg.streams.placement import inbox

log = logging.getLogger("thalweg.place")


@dataclass(slots=True, kw_only=True)
class Folded:
    """What a batch's records came to."""

    transitions: list[Transition]
    """Applied, in order."""
    of_records: list[tuple[RecordPlace, list[Transition]]] = field(default_factory=list)
    """Those that follow from one record."""
    refused: list[RefusedRecord] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    """To the requests, for who asked."""


@dataclass(slots=True, kw_only=True)
class Fold:
    """Folds batches into one world."""

    prefix: str
    world: World
    judge: Judge
    facts: FactsIntake
    hearing: Hearing
    isolation: Isolation
    end_of_batch: Callable[[int], Reached | None]
    """Up to where a batch reads; None where only its records tell."""

    def fold_batch(self, received: pa.Table, batch_id: int, now_ms: int) -> Folded:
        """Fold a batch that the ledger does not have."""
        folded = Folded(transitions=self.facts.learn(now_ms))
        for item in inbox.read(received, self.prefix):
            self._take(item, folded, now_ms)
        for region, silent_ms in self._silent_regions(batch_id).items():
            log.warning("region lost", extra={"fields": {"region": region, "silent_ms": silent_ms}})
            self.world.lose_region(region)
            folded.transitions += applied(self.world, decide.lose_region(self.world, region, silent_ms, now_ms))
        return folded

    def refused_before(
        self, received: pa.Table, taken: dict[RecordPlace, TaskId], submitted: set[TaskId], now_ms: int
    ) -> list[RefusedRecord]:
        """Say again what a batch refused of which the ledger has the rows.

        Refusals are not in the ledger. They are what the records say again, but for those that were taken; one that
        came before its own task is judged by a world without tasks, as it was.

        Args:
            received: the batch's records.
            taken: those that became rows, with the task's id.
            submitted: tasks that the batch submits.
            now_ms: the time.
        """
        refused, later = list[RefusedRecord](), set(submitted)
        for item in inbox.read(received, self.prefix):
            place = place_of(item)
            if place in taken:
                later.discard(taken[place])
                continue
            world = World() if isinstance(item, inbox.ReceivedRequest) and item.request.task_id in later else self.world
            outcome = self.isolation.judge(place, partial(self.judge.refusal, item, now_ms, world))
            if outcome is not None:
                refused.append(refused_record(item, outcome.reason if isinstance(outcome, Indigestible) else outcome))
        return refused

    def _take(self, item: inbox.Item, folded: Folded, now_ms: int) -> None:
        place = place_of(item)
        if isinstance(item, inbox.ReceivedStatus):
            with self.isolation.applying(place):
                self._hear(item, now_ms)
        outcome = self.isolation.judge(place, partial(self.judge.judge, item, now_ms))
        if isinstance(outcome, Indigestible | decide.Refused):
            folded.refused.append(refused_record(item, outcome.reason))
            folded.answers += _answers(item, outcome.reason, self.world)
            return
        with self.isolation.applying(place):
            folded.transitions += applied(self.world, outcome.transitions)
        folded.answers += _answers(item, outcome.transitions, self.world)
        if outcome.transitions:
            folded.of_records.append((place, outcome.transitions))

    def _hear(self, said: inbox.ReceivedStatus, now_ms: int) -> None:
        """Note a sign of life: of a region, or of this job itself, by which it knows what can be heard."""
        event, record = said.event, position_of(said)
        if event.region == CONTROL_REGION and event.type == "heartbeat" and event.agent_id == self.hearing.life:
            self.hearing.read_back(event.stamp.seq if event.stamp is not None else 0)
        if self.hearing.hear(event.region, record, event.agent_id):
            if event.type == "goodbye":
                self.world.close_region(event.region)
            else:
                self.world.hear(event.region, now_ms)

    def _silent_regions(self, batch_id: int) -> dict[RegionId, int]:
        topics = {
            region: topic_name(STATUS, self.prefix, region)
            for region, state in self.world.regions.items()
            if not state.lost
        }
        return self.hearing.silent(topics, lambda: self.end_of_batch(batch_id) or {})


def _answers(item: inbox.Item, outcome: str | Sequence[Transition], world: World) -> list[Answer]:
    """Answer what was asked; a report, and a record that is nothing, has nobody who waits for an answer."""
    return [answer_to(item, outcome, world)] if isinstance(item, inbox.ReceivedRequest) else []
