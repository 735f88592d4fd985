"""A grid over Kafka: calls to participants on the topic `calls`, their replies on the topics of their regions.

Nothing but the topics outlives it. A server app that dies and is started anew under the same run's name asks for the
same by the same ids, finds on the topics what has been answered, and goes on from there.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flwr.app import Message

from thalweg.flower.exact_grid import LOOK_MS, ExactGrid, OpenCall
from thalweg.flower.wire import WireError, WireMessage, from_wire
from thalweg.learning.vectors.parameters import digest
from thalweg.streams.broker.consume import IncomingRecord
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
    write_call,
)
from thalweg.streams.learning.payloads import PayloadError, PayloadStore
from thalweg.streams.learning.updates import payload_of
from thalweg.sync.clock import Clock

log: Final = logging.getLogger("thalweg.flower")


class FlowerRunEndedError(Exception):
    """The run of this name is over: who took part has gone."""

    def __init__(self, run: str) -> None:
        super().__init__(f"the run {run!r} has ended, and its participants have gone: name a new one")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """A reply as it arrived."""

    reply: FlowerReply
    at_ms: int
    """The broker's time."""


class KafkaGrid(ExactGrid):
    """Participants elsewhere, each a `thalweg.flower.participant`."""

    def __init__(
        self,
        run: str,
        *,
        calls: PlacedReader,
        replies: PlacedReader,
        publisher: Publisher,
        topic_prefix: str,
        clock: Clock,
        steady: Clock,
        store: PayloadStore | None = None,
        inline_bytes: int = 524_288,
    ) -> None:
        """Begin a run, or go on with it.

        Args:
            run: its name; a new run needs a new one.
            calls: reads the topic `calls` from its beginning; needed here only.
            replies: reads every region's topic `replies` from its beginning.
            publisher: sends.
            topic_prefix: first part of the topics' names.
            clock: the wall clock.
            steady: a clock that never steps.
            store: where large contents are put and found; None where all are small.
            inline_bytes: up to which a content travels in the message.

        Raises:
            FlowerRunEndedError: it is over.
            BrokerUnavailableError: nobody answers.
        """
        super().__init__(run, clock=clock, steady=steady)
        self._reader = replies
        self._publisher = publisher
        self._prefix = topic_prefix
        self._store = store
        self._inline_bytes = inline_bytes
        self._lives: dict[str, tuple[int, bool]] = {}
        """Of each participant, the newest life that it told of, and whether that takes part."""
        self._said: dict[tuple[str, str], list[_Said]] = {}
        """Replies that nobody has pulled, by call and participant, in the order in which they arrived."""
        self._pulled: set[str] = set()
        self.repeated = 0
        """Replies to what had been answered."""
        self.refused = 0
        """Replies that were late or could not be read."""
        if any(self._is_end(record) for record in read_through(calls)):
            raise FlowerRunEndedError(run)
        for record in read_through(replies):
            self._hear(record)

    def members(self) -> Sequence[str]:
        """Names of who has joined and not left; one that died is among them, and does not reply."""
        self._look(0)
        return sorted(name for name, (_, there) in self._lives.items() if there)

    def wait_for(self, participants: int, timeout_s: float | None = None) -> None:
        """Wait until so many take part, before a strategy starts.

        Flower's strategies count who is there before they wait for `min_available_nodes`: of a run that begins with
        fewer, the first round draws fewer.

        Args:
            participants: how many.
            timeout_s: after which it is given up; None waits for ever.

        Raises:
            TimeoutError: they are fewer.
        """
        ends_ms = None if timeout_s is None else self._steady() + timeout_s * 1_000
        while (there := len(self.members())) < participants:
            if ends_ms is not None and self._steady() >= ends_ms:
                raise TimeoutError(f"{there} of {participants} participants have joined {self.name!r}")
            self._look(LOOK_MS)

    def end(self) -> None:
        """Let the participants go. Call it when what was learned is safe: the run cannot be gone on with."""
        self._publisher.publish([write_call(FlowerCall(kind="end", run=self.name), self._prefix, self._clock())])

    def close(self) -> None:
        """Give up the connections; the run stays as it is."""
        self._reader.close()
        self._publisher.close()

    def _send(self, calls: Sequence[OpenCall]) -> None:
        contents = {digest(raw): raw for call in calls if (raw := call.asked.content) is not None}
        large = [raw for raw in contents.values() if len(raw) > self._inline_bytes]
        if large and self._store is None:
            raise PayloadError(f"a content of {len(large[0])} bytes is too large for a message: give a store")
        if large and self._store is not None:
            self._store.put(large)  # before anybody is told of them
        self._publisher.publish([write_call(self._told(call), self._prefix, self._clock()) for call in calls])

    def _told(self, call: OpenCall) -> FlowerCall:
        content = call.asked.content
        assert content is not None
        return FlowerCall(
            kind="call",
            run=self.name,
            participant=call.participant,
            message_id=call.message_id,
            metadata=in_base64(call.asked.metadata),
            content=payload_of(content, digest(content), self._inline_bytes),
            until=call.until_ms,
        )

    def _replies(self, calls: Sequence[OpenCall], wait_ms: int) -> Mapping[str, Message]:
        self._look(0)
        found = self._taken(calls)
        if not found and wait_ms:
            self._look(wait_ms)
            found = self._taken(calls)
        return found

    def _taken(self, calls: Sequence[OpenCall]) -> dict[str, Message]:
        """Take the first reply to each call that was in time and can be read; the others are done with."""
        found = {}
        for call in calls:
            for said in self._said.pop((call.message_id, call.participant), ()):
                if call.message_id in found:
                    self.repeated += 1
                elif (reply := self._read(call, said)) is not None:
                    found[call.message_id] = reply
        self._pulled |= found.keys()
        return found

    def _read(self, call: OpenCall, said: _Said) -> Message | None:
        try:
            if said.at_ms > call.until_ms:
                raise WireError(f"it came {said.at_ms - call.until_ms} ms late")
            content = said.reply.content
            raw = WireMessage(
                metadata=from_base64(said.reply.metadata),
                content=None if content is None else content_of(content, self._store),
            )
            reply = from_wire(raw)
            if reply.metadata.reply_to_message_id != call.message_id or reply.has_error() == reply.has_content():
                raise WireError("it is no reply to this call")
            return reply
        except (WireError, PayloadError) as error:
            self.refused += 1
            log.warning("%s: a reply of %s is not taken: %s", self.name, call.participant, error)
            return None

    def _look(self, wait_ms: int) -> None:
        for record in self._reader.poll(wait_ms):
            self._hear(record)

    def _hear(self, record: IncomingRecord) -> None:
        try:
            reply = read_reply(record)
        except UndecodableError as error:
            self.refused += 1
            log.warning("%s, offset %d: no reply: %s", record.topic, record.offset, error)
            return
        if reply.run != self.name:
            return
        if reply.kind != "reply":
            life, _ = self._lives.get(reply.participant, (0, False))
            if reply.life >= life:
                self._lives[reply.participant] = reply.life, reply.kind == "join"
        elif reply.message_id in self._pulled:
            self.repeated += 1
        else:
            said = self._said.setdefault((reply.message_id, reply.participant), [])
            said.append(_Said(reply=reply, at_ms=record.timestamp_ms))

    def _is_end(self, record: IncomingRecord) -> bool:
        try:
            call = read_call(record)
        except UndecodableError:
            return False
        return call.kind == "end" and call.run == self.name
