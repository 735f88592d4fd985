"""What becomes of requests, told to whoever asked: beside the stream, so that no assignment waits for it.

Nothing rests on an answer: one that a kill or an absent broker swallows is never repeated. What was taken is in the
ledger, what was refused is in the dead-letter topic, and both are sure.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from thalweg.scheduling.decisions.decide import RequestOrigin
from thalweg.scheduling.world.tasks import Change, Transition
from thalweg.scheduling.world.world import World
from thalweg.streams.broker.errors import StreamError
from thalweg.streams.broker.publish import OutgoingRecord, Publisher
from thalweg.streams.contract.messages import Answer, Answers, OrderAnswer
from thalweg.streams.contract.topics import ANSWERS, topic_name
from thalweg.streams.placement import inbox
from thalweg.streams.placement.orders import subject

MOST_KEPT: Final = 100_000
"""Answers that wait for the broker; older ones go first, their askers have given up."""
PER_RECORD: Final = 100
"""So many with the longest ids and reasons fit the topic's limit, four bytes a character."""
LONGEST_REASON: Final = 1_000
EVERY_S: Final = 0.05
"""Between two looks: a person does not notice it, and a busy stream's answers go out together."""

_ENCODER: Final = msgspec.json.Encoder()


def answer_to(asked: inbox.ReceivedRequest, outcome: str | Sequence[Transition], world: World) -> Answer:
    """Say what became of a request.

    Args:
        asked: the request.
        outcome: why it was refused, or the rows that follow from it, applied.
        world: after it.
    """
    task = world.tasks.get(asked.request.task_id)
    known = task or world.ended.get(asked.request.task_id)
    rows = () if isinstance(outcome, str) else outcome
    known_reason = "" if task is None else task.reason
    return Answer(
        task_id=asked.request.task_id,
        op=asked.request.op,
        answer="refused" if isinstance(outcome, str) else "taken" if rows else "known",
        state="" if known is None else str(known.state),
        reason=(outcome if isinstance(outcome, str) else known_reason)[:LONGEST_REASON],
        copies=sum(row.change is Change.REVOKED for row in rows),
        observed_at=asked.request.observed_at,
        partition=asked.origin.partition,
        offset=asked.origin.offset,
    )


def answer_to_order(asked: inbox.ReceivedOrder, outcome: str | Sequence[Transition]) -> OrderAnswer:
    """Say what became of an order.

    Args:
        asked: the order.
        outcome: why it was refused, or the rows that follow from it; none where it was taken before.
    """
    row = None if isinstance(outcome, str) else next((row for row in outcome if row.ordered is not None), None)
    is_news = row is not None and row.ordered is not None and row.ordered.before != row.ordered.after
    return OrderAnswer(
        order=asked.order.order,
        answer="refused" if isinstance(outcome, str) else "taken" if is_news else "known",
        subject=subject(asked.order),
        reason=(outcome if isinstance(outcome, str) else "" if row is None else row.reason or "")[:LONGEST_REASON],
        order_id=asked.order.order_id,
        partition=asked.origin.partition,
        offset=asked.origin.offset,
    )


def refusal_of(head: inbox.RequestHead, origin: RequestOrigin, reason: str, world: World) -> Answer:
    """Say that a request was refused of which no more than this could be read."""
    known = world.find(head.task_id)
    return Answer(
        task_id=head.task_id,
        op=head.said_op(),
        answer="refused",
        state="" if known is None else str(known.state),
        reason=reason[:LONGEST_REASON],
        observed_at=head.said_observed_at(),
        partition=origin.partition,
        offset=origin.offset,
    )


class AnswerDesk:
    """Keeps answers until they are told; filled by the batch's thread, told by another."""

    def __init__(self, topic_prefix: str, connect: Callable[[], Publisher]) -> None:
        """Prepare; who is asked nothing never connects.

        Args:
            topic_prefix: first part of the topics' names.
            connect: gives a publisher of its own: a broken topic of answers must not hold up the assignments.
        """
        self._topic = topic_name(ANSWERS, topic_prefix)
        self._connect = connect
        self._publisher: Publisher | None = None
        self._lock = threading.Lock()
        self._kept: list[Answer | OrderAnswer] = []

    def put(self, answers: Sequence[Answer | OrderAnswer]) -> None:
        """Keep answers for the next telling."""
        if answers:
            with self._lock:
                self._kept = [*self._kept, *answers][-MOST_KEPT:]

    def tell(self) -> None:
        """Publish what is kept.

        Raises:
            StreamError: the broker does not take it; it is kept for the next time.
        """
        with self._lock:
            kept, self._kept = self._kept, []
        if not kept:
            return
        try:
            if self._publisher is None:
                self._publisher = self._connect()
            self._publisher.publish(
                [self._record(kept[first : first + PER_RECORD]) for first in range(0, len(kept), PER_RECORD)]
            )
        except StreamError:
            with self._lock:
                self._kept = [*kept, *self._kept][-MOST_KEPT:]
            raise

    def _record(self, kept: list[Answer | OrderAnswer]) -> OutgoingRecord:
        answers = [one for one in kept if isinstance(one, Answer)]
        orders = [one for one in kept if isinstance(one, OrderAnswer)]
        return OutgoingRecord(
            topic=self._topic,
            key=None,
            value=_ENCODER.encode(Answers(answers=answers, orders=orders)),
            max_bytes=ANSWERS.max_message_bytes,
        )

    def close(self) -> None:
        """Give up the connection."""
        if self._publisher is not None:
            self._publisher.close()
