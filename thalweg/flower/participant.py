"""A participant of a Flower run: it follows the calls, lets its client app answer each once, and says so."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from thalweg.flower.answer_memory import Answered, AnswerMemory
from thalweg.flower.client_node import ClientNode
from thalweg.flower.wire import WireError, WireMessage
from thalweg.learning.vectors.parameters import digest
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.broker.errors import BrokerUnavailableError, NotAcknowledgedError
from thalweg.streams.broker.publish import Publisher
from thalweg.streams.contract.decode import UndecodableError
from thalweg.streams.contract.messages import FlowerCall, FlowerReply
from thalweg.streams.learning.calls import (
    PlacedReader,
    content_of,
    from_base64,
    in_base64,
    read_call,
    read_reply,
    read_through,
    write_reply,
)
from thalweg.streams.learning.payloads import PayloadError, PayloadStore
from thalweg.streams.learning.updates import payload_of
from thalweg.sync.clock import Clock

AGAIN_AFTER_S: Final = 2.0
"""Pause before the broker is tried again: long enough not to spin on one that is down."""

log: Final = logging.getLogger("thalweg.flower")


class FlowerParticipant:
    """One life of a participant. For one thread."""

    def __init__(
        self,
        run: str,
        node: ClientNode,
        *,
        region: str,
        calls: PlacedReader,
        replies: PlacedReader,
        publisher: Publisher,
        topic_prefix: str,
        clock: Clock,
        store: PayloadStore | None = None,
        inline_bytes: int = 524_288,
        memory: AnswerMemory | None = None,
        life: int | None = None,
    ) -> None:
        """Prepare; `join` says it.

        Args:
            run: its name.
            node: the client app.
            region: whose topic it sends by; the topic must exist.
            calls: reads the topic `calls` from its beginning.
            replies: reads the topics `replies` that it may have sent by from their beginning: what it has answered.
            publisher: sends.
            topic_prefix: first part of the topics' names.
            clock: the wall clock.
            store: where large contents are put and found; None where all are small.
            inline_bytes: up to which a content travels in the message.
            memory: what outlives it; with None, its app's state ends with it, and a reply that was computed and not
                sent is computed anew.
            life: number of this life, above those of earlier ones; None takes the clock's milliseconds.

        Raises:
            BrokenMemoryError: the memory is damaged.
            BrokerUnavailableError: nobody answers.
        """
        self._run = run
        self._node = node
        self._region = region
        self._calls = calls
        self._publisher = publisher
        self._prefix = topic_prefix
        self._clock = clock
        self._store = store
        self._inline_bytes = inline_bytes
        self._memory = memory
        self._life = clock() if life is None else life
        self._waiting: deque[FlowerCall] = deque()
        self._last = memory.read() if memory is not None else None
        if self._last is not None:
            node.restore(self._last.state)
        self._answered: set[str] = set()
        for record in read_through(replies):
            self._note_own(record)
        self.computed = 0
        """Calls that the client app was given in this life."""
        self.ended = False
        """Whether the run is over."""

    def join(self) -> None:
        """Say that it takes part; again is the same."""
        self._say(FlowerReply(kind="join", run=self._run, participant=self._node.name, life=self._life))

    def leave(self) -> None:
        """Say that it does not any more."""
        self._say(FlowerReply(kind="leave", run=self._run, participant=self._node.name, life=self._life))

    def step(self, timeout_ms: int = 100) -> bool:
        """Read what is asked, answer one call if there is one, and tell whether the run is over.

        Raises:
            NotAcknowledgedError: the broker did not take the reply; the next step says it again and computes nothing.
        """
        for record in self._calls.poll(0 if self._waiting else timeout_ms):
            self._hear(record)
        if self._waiting:
            self._answer(self._waiting[0])
            self._waiting.popleft()  # not before it is said
        return self.ended

    def follow(self, wait: Callable[[float], object]) -> None:
        """Take part until the run is over, also while the broker is away; whatever ends this before lets it leave.

        Args:
            wait: pauses, for seconds.
        """
        try:
            _patiently(self.join, wait)
            while not self.ended:
                _patiently(self.step, wait)
        finally:
            if not self.ended:
                self.leave()

    def close(self) -> None:
        """Give up the connections."""
        self._calls.close()
        self._publisher.close()

    def _note_own(self, record: IncomingRecord) -> None:
        try:
            reply = read_reply(record)
        except UndecodableError:
            return  # somebody else's; the server app tells of it
        if reply.kind == "reply" and (reply.run, reply.participant) == (self._run, self._node.name):
            self._answered.add(reply.message_id)

    def _hear(self, record: IncomingRecord) -> None:
        try:
            call = read_call(record)
        except UndecodableError as error:
            log.warning("%s, offset %d: no call: %s", record.topic, record.offset, error)
            return
        if call.run != self._run:
            return
        if call.kind == "end":
            self.ended = True
            self._waiting.clear()
        elif call.participant == self._node.name:
            self._waiting.append(call)

    def _answer(self, call: FlowerCall) -> None:
        if call.message_id in self._answered or self._clock() > call.until:
            return
        if self._last is None or self._last.message_id != call.message_id:
            try:
                self._last = self._made(call)
            except (PayloadError, WireError) as error:
                log.warning("%s: a call is not answered: %s", self._run, error)
                return
            if self._memory is not None:
                self._memory.write(self._last)
        self._say_reply(self._last)
        self._answered.add(call.message_id)

    def _made(self, call: FlowerCall) -> Answered:
        if call.content is None:
            raise WireError("it has no content")
        asked = WireMessage(metadata=from_base64(call.metadata), content=content_of(call.content, self._store))
        reply = self._node.answer(asked)
        self.computed += 1
        return Answered(
            message_id=call.message_id, metadata=reply.metadata, content=reply.content, state=self._node.state()
        )

    def _say_reply(self, answered: Answered) -> None:
        content = answered.content
        if content is not None and len(content) > self._inline_bytes:
            if self._store is None:
                raise PayloadError(f"a reply of {len(content)} bytes is too large for a message: give a store")
            self._store.put([content])
        self._say(
            FlowerReply(
                kind="reply",
                run=self._run,
                participant=self._node.name,
                message_id=answered.message_id,
                metadata=in_base64(answered.metadata),
                content=None if content is None else payload_of(content, digest(content), self._inline_bytes),
            )
        )

    def _say(self, reply: FlowerReply) -> None:
        self._publisher.publish([write_reply(reply, self._prefix, self._region, self._clock())])


def _patiently(act: Callable[[], object], wait: Callable[[float], object]) -> None:
    """Do something, again and again while the broker is away."""
    while True:
        try:
            act()
            return
        except (BrokerUnavailableError, NotAcknowledgedError) as error:
            log.warning("waiting for the broker: %s", error)
            wait(AGAIN_AFTER_S)
