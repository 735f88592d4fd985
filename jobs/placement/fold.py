"""Folding a batch into the world: facts, its records one by one, then what did not come: regions' signs, parents."""

import logging
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import pyarrow as pa

from thalweg.jobs.microbatch.isolation import Indigestible, Isolation, RecordPlace
from thalweg.jobs.placement import metrics
from thalweg.jobs.placement.answers import answer_to, answer_to_order, refusal_of
from thalweg.jobs.placement.facts import FactsIntake, applied
from thalweg.jobs.placement.heartbeat import CONTROL_REGION
from thalweg.jobs.placement.judge import BEGINNING, Judge
from thalweg.jobs.placement.read_back import ReadBack
from thalweg.jobs.placement.refusals import place_of, position_of, refused_record
from thalweg.scheduling.decisions import decide
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.scheduling.liveness.awaited import AwaitedParents
from thalweg.scheduling.liveness.hearing import Hearing, Reached
from thalweg.scheduling.world.orders import NOBODY
from thalweg.scheduling.world.tasks import Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.broker.deadletter import RefusedRecord
from thalweg.streams.broker.publish import OutgoingRecord
from thalweg.streams.contract.messages import Answer, OrderAnswer
from thalweg.streams.contract.topics import ASSIGNMENTS, REQUESTS, STATUS, topic_name
from thalweg.streams.placement import inbox
from thalweg.streams.placement.ends import refused_end
from thalweg.streams.placement.event_ids import event_type_of
from thalweg.sync.ledger.taken import TakenRequests

SET_APART: Final = (Indigestible, decide.Refused)
"""What comes of a record that is not taken."""

log = logging.getLogger("thalweg.place")


@dataclass(slots=True, kw_only=True)
class Folded:
    """What a batch's records came to."""

    transitions: list[Transition]
    """Applied, in order."""
    of_records: list[tuple[RecordPlace, list[Transition]]] = field(default_factory=list)
    """Those that follow from one record."""
    refused: list[RefusedRecord] = field(default_factory=list)
    ends: list[OutgoingRecord] = field(default_factory=list)
    """Told of requests that were refused, where no task of that id is known."""
    answers: list[Answer] = field(default_factory=list)
    """To the requests, for who asked."""
    order_answers: list[OrderAnswer] = field(default_factory=list)
    """To the orders."""


@dataclass(slots=True, kw_only=True)
class Fold:
    """Folds batches into one world."""

    prefix: str
    world: World
    judge: Judge
    facts: FactsIntake
    hearing: Hearing
    awaited: AwaitedParents
    isolation: Isolation
    end_of_batch: Callable[[int], Reached | None]
    """Up to where a batch reads; None where only its records tell."""
    read_back: ReadBack | None = None
    """What regions were told that the ledger does not have, until all of it is taken back."""
    _has_reruns: bool = False
    """Whether the batch asks for what has ended to run again."""

    def fold_batch(self, received: pa.Table, batch_id: int, now_ms: int) -> Folded:
        """Fold a batch that the ledger does not have."""
        learned = self.facts.learn(now_ms, judge=self.read_back is None)
        folded = Folded(transitions=self._yet_to_be_told(learned))
        items = list(inbox.read(received, self.prefix))
        metrics.REQUESTS_SEEN.inc(sum(isinstance(item, inbox.ReceivedRequest) for item in items))
        self._has_reruns = any(isinstance(item, inbox.ReceivedRequest) and item.request.op == "rerun" for item in items)
        if self._has_reruns:
            self.judge.recall(self._reruns(items))
        for item in items:
            self._take(item, folded, now_ms)
        if self.read_back is not None and self.read_back.is_read(self.end_of_batch(batch_id) or {}):
            rest = [*self.read_back.rest(self.judge, now_ms), *self.facts.judge(now_ms)]
            folded.transitions += self._with_follow_ups(self._yet_to_be_told(rest), now_ms)
            self.read_back = None
        if self.read_back is not None:
            return folded  # what did not come may lie in what is not read yet
        for region, silent_ms in self._silent_regions(batch_id).items():
            log.warning("region lost", extra={"fields": {"region": region, "silent_ms": silent_ms}})
            self.world.lose_region(region)
            folded.transitions += applied(self.world, decide.lose_region(self.world, region, silent_ms, now_ms))
        folded.transitions += self._given_up(now_ms)
        return folded

    def _given_up(self, now_ms: int) -> list[Transition]:
        """End tasks whose parents do not come."""
        read_up_to_ms = self.hearing.read_up_to_ms(topic_name(REQUESTS, self.prefix))
        overdue = self.awaited.overdue(self.world.gates.parentless(), self.hearing.now_ms, read_up_to_ms)
        return self._with_follow_ups(
            applied(self.world, decide.give_up_parents(self.world, overdue, self.awaited.patience_ms, now_ms)), now_ms
        )

    def refused_before(
        self,
        received: pa.Table,
        taken: Set[tuple[RecordPlace, TaskId]],
        submitted: Set[TaskId],
        earlier: TakenRequests,
        now_ms: int,
    ) -> Folded:
        """Say again what a batch refused of which the ledger has the rows.

        Refusals are not in the ledger. They are what the records say again, but for those that were taken; one that
        came before its own task is judged by a world without tasks, as it was.

        Args:
            received: the batch's records.
            taken: those that became rows, each with the ids of its tasks.
            submitted: tasks that the batch submits.
            earlier: requests that were taken before the batch: their topic may be read anew.
            now_ms: the time.
        """
        again, later = Folded(transitions=[]), set(submitted)
        for item in inbox.read(received, self.prefix):
            place = place_of(item)
            if isinstance(item, inbox.ReceivedRequest) and (place, item.request.task_id) in taken:
                later.discard(item.request.task_id)
                continue
            if isinstance(item, inbox.ReceivedOrder) and (place, NOBODY) in taken:
                continue
            world = World() if isinstance(item, inbox.ReceivedRequest) and item.request.task_id in later else self.world
            outcome = self.isolation.judge(place, partial(self.judge.refusal, item, now_ms, world))
            if outcome is not None and not (isinstance(item, inbox.ReceivedRequest) and _is_among(earlier, item)):
                self._refuse(item, outcome.reason if isinstance(outcome, Indigestible) else outcome, again)
        return again

    def _reruns(self, items: Iterable[inbox.Item]) -> list[TaskId]:
        """Name the tasks that are to run again with what they had asked for, which does not come along."""
        return [
            item.request.task_id
            for item in items
            if isinstance(item, inbox.ReceivedRequest)
            and item.request.op == "rerun"
            and (ended := self.world.ended.get(item.request.task_id)) is not None
            and not ended.has_content(item.content_hash)
        ]

    def _take(self, item: inbox.Item, folded: Folded, now_ms: int) -> None:
        place = place_of(item)
        if isinstance(item, inbox.ReceivedStatus):
            with self.isolation.applying(place):
                self._hear(item, now_ms)
        if self.read_back is not None and not self._read_back(self.read_back, item, folded, now_ms):
            return
        outcome = self.isolation.judge(place, partial(self.judge.judge, item, now_ms))
        if isinstance(outcome, SET_APART):
            self._refuse(item, outcome.reason, folded)
            folded.answers += _answers(item, outcome.reason, self.world)
            folded.order_answers += _order_answers(item, outcome.reason)
            return
        with self.isolation.applying(place):
            rows = self._yet_to_be_told(applied(self.world, outcome.transitions))
            folded.answers += _answers(item, rows, self.world)
            folded.order_answers += _order_answers(item, rows)
            rows = self._with_follow_ups(rows, now_ms)
            if self._has_reruns:
                self.judge.remember(rows)
        folded.transitions += rows
        if rows:
            folded.of_records.append((place, rows))

    def _read_back(self, read_back: ReadBack, item: inbox.Item, folded: Folded, now_ms: int) -> bool:
        """Take back what lies before a record, and tell whether that is judged: a region's list is not, until later."""
        task_id = item.request.task_id if isinstance(item, inbox.ReceivedRequest) else None
        read_back.note(item.origin)
        rows = read_back.before(item.origin.timestamp_ms, task_id, self.judge, now_ms)
        folded.transitions += self._with_follow_ups(self._yet_to_be_told(rows), now_ms) if rows else []
        return not (isinstance(item, inbox.ReceivedStatus) and item.event.type == "inventory")

    def _with_follow_ups(self, rows: list[Transition], now_ms: int) -> list[Transition]:
        while more := applied(self.world, decide.follow_ups(self.world, now_ms)):
            rows += self._yet_to_be_told(more)
        return rows

    def _refuse(self, item: inbox.Item, reason: str, folded: Folded) -> None:
        """Set a record apart, and tell who waits for a task that will not begin by it."""
        folded.refused.append(refused_record(item, reason))
        if isinstance(item, inbox.ReceivedStatus | inbox.ReceivedOrder):
            return
        if item.origin.topic != topic_name(REQUESTS, self.prefix):
            return
        if isinstance(item, inbox.ReceivedRequest) and item.request.op not in BEGINNING:
            return
        task_id = item.task_named() if isinstance(item, inbox.Malformed) else item.request.task_id
        if task_id and self.world.find(task_id) is None:
            folded.ends.append(refused_end(item, task_id, reason, self.prefix))

    def _yet_to_be_told(self, rows: list[Transition]) -> list[Transition]:
        """Note of whom regions are told at the batch's end only: a list in the same batch cannot know of it."""
        for row in rows:
            if row.region is not None and event_type_of(row) is not None:
                self.judge.told.decided(topic_name(ASSIGNMENTS, self.prefix, row.region), row.task_id)
        return rows

    def _hear(self, said: inbox.ReceivedStatus, now_ms: int) -> None:
        """Note a sign of life: of a region, or of this job itself, by which it knows what can be heard."""
        event, record = said.event, position_of(said)
        if event.region == CONTROL_REGION and event.type == "heartbeat" and event.agent_id == self.hearing.life:
            self.hearing.read_back(event.stamp.seq if event.stamp is not None else 0)
        if self.hearing.hear(event.region, record, event.agent_id) and event.region != CONTROL_REGION:
            if event.type == "goodbye":
                self.world.close_region(event.region)
            else:
                self.world.hear(event.region, now_ms)
            if event.type == "heartbeat":
                self.world.note_runner(event.region, needs_command=event.needs_command)
        if event.type == "progress" and event.task_id is not None:
            self.world.tell(event.task_id, event.region, event.epoch, event.progress or 0.0, event.checkpointed_at or 0)

    def _silent_regions(self, batch_id: int) -> dict[RegionId, int]:
        topics = {
            region: topic_name(STATUS, self.prefix, region)
            for region, state in self.world.regions.items()
            if not state.lost
        }
        return self.hearing.silent(topics, lambda: self.end_of_batch(batch_id) or {})


def _is_among(taken: TakenRequests, asked: inbox.ReceivedRequest) -> bool:
    origin = asked.origin
    return taken.has(asked.request.task_id, origin.topic, origin.partition, origin.offset, origin.timestamp_ms)


def _answers(item: inbox.Item, outcome: str | Sequence[Transition], world: World) -> list[Answer]:
    """Answer what was asked; a report, and a record that names no task, has nobody who waits for an answer."""
    if isinstance(item, inbox.ReceivedRequest):
        return [answer_to(item, outcome, world)]
    if isinstance(item, inbox.Malformed) and item.head is not None and isinstance(outcome, str):
        return [refusal_of(item.head, item.origin, outcome, world)]
    return []


def _order_answers(item: inbox.Item, outcome: str | Sequence[Transition]) -> list[OrderAnswer]:
    """Answer an order; one that cannot be read has nobody who waits for an answer."""
    return [answer_to_order(item, outcome)] if isinstance(item, inbox.ReceivedOrder) else []
