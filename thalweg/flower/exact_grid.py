"""What both grids share: ids that follow from what is asked, one reply for each call, in the order of the calls.

A strategy sums replies in the order in which it is given them, and floating-point sums depend on it. So replies come in
the order of the calls, whoever answered first.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from thalweg.flower.numbers import call_id, number_of
from thalweg.flower.wire import (
    NO_REPLY,
    NOBODY,
    WireMessage,
    be_server_app,
    content_bytes,
    error_reply,
    give_id,
    metadata_bytes,
)
from thalweg.learning.vectors.parameters import digest
from thalweg.scheduling.counted import counted
from thalweg.sync.clock import Clock

MOST_TTL_S: Final = 86_400
"""A call and its reply are kept by the broker for longer than this, so nobody answers again what was answered."""
LOOK_MS: Final = 100
"""How long one look for replies waits: so late a given time may be noticed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCall:
    """A message that was pushed and whose reply nobody has pulled."""

    message: Message
    participant: str
    """Empty where Flower's number of a node is nobody's."""
    asked: WireMessage
    until_ms: int
    """Wall clock."""

    @property
    def message_id(self) -> str:
        """Its id."""
        found: str = self.message.metadata.message_id
        return found


class ExactGrid(Grid):  # type: ignore[misc]  # flwr is not installed where types are checked
    """A grid whose replies depend on the calls alone. For one thread, and one to a process."""

    def __init__(self, run: str, *, clock: Clock, steady: Clock) -> None:
        """Begin a run, or go on with it.

        Args:
            run: its name.
            clock: the wall clock: until when a call may be answered.
            steady: how long it is waited for.
        """
        self.name = run
        self._clock = clock
        self._steady = steady
        self._about: Run = be_server_app(number_of(run))
        self._turns: Counter[tuple[str, ...]] = Counter()
        self._open: dict[str, OpenCall] = {}
        """In the order of pushing."""

    @abstractmethod
    def members(self) -> Sequence[str]:
        """Names of who takes part now."""

    @abstractmethod
    def _send(self, calls: Sequence[OpenCall]) -> None:
        """Bring calls on their way."""

    @abstractmethod
    def _replies(self, calls: Sequence[OpenCall], wait_ms: int) -> Mapping[str, Message]:
        """Give those replies that are there, by the id of their call; wait at most so long for the first."""

    @property
    def run(self) -> Run:
        """Flower's description of the run: its number alone."""
        return self._about

    def set_run(self, run: Run) -> None:
        """Accept the run that this grid was made for.

        Raises:
            ValueError: it is another.
        """
        if run.run_id != self._about.run_id:
            raise ValueError(f"run {run.run_id}: this grid is of the run {self.name!r}, {self._about.run_id}")

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message, as `Message(…)` does."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Give Flower's numbers of who takes part, ascending: whoever draws from them draws the same."""
        return sorted(number_of(self.name, name) for name in self.members())

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Call participants, and return the calls' ids.

        Raises:
            ValueError: a message is none to a participant, or would be waited for too long.
        """
        names = {number_of(self.name, name): name for name in self.members()}
        written: dict[int, bytes] = {}  # the strategies give all messages of a round one content
        calls = []
        for message in list(messages):
            _check(message)
            if (content := written.get(id(message.content))) is None:
                content = written[id(message.content)] = content_bytes(message.content)
            calls.append(self._call(message, content, names.get(message.metadata.dst_node_id, "")))
        self._open |= {call.message_id: call for call in calls}
        self._send([call for call in calls if call.participant])
        return [call.message_id for call in calls]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Give the replies that are there, each once, in the order in which the calls were pushed."""
        return self._pull(set(message_ids), wait_ms=0)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Call participants and wait for their replies; those that are there, in the order of the calls.

        Args:
            messages: to whom and what.
            timeout: seconds after which it goes on with what is there; None waits until each call is answered or its
                own time is over, which is an error reply.
        """
        ids = self.push_messages(messages)
        ends_ms = None if timeout is None else self._steady() + timeout * 1_000
        found: dict[str, Message] = {}
        while True:
            left_ms = LOOK_MS if ends_ms is None else ends_ms - self._steady()
            missing = {name for name in ids if name not in found}
            for reply in self._pull(missing, wait_ms=int(min(max(left_ms, 0), LOOK_MS))):
                found[reply.metadata.reply_to_message_id] = reply
            if len(found) == len(ids) or left_ms <= 0:
                return [found[name] for name in ids if name in found]

    def _call(self, message: Message, content: bytes, participant: str) -> OpenCall:
        told = message.metadata
        same = (participant or str(told.dst_node_id), told.message_type, told.group_id, digest(content))
        give_id(message, call_id(self.name, *same, self._turns[same]))
        self._turns[same] += 1
        asked = WireMessage(metadata=metadata_bytes(message), content=content)
        until_ms = self._clock() + round(told.ttl * 1_000)
        return OpenCall(message=message, participant=participant, asked=asked, until_ms=until_ms)

    def _pull(self, ids: set[str], wait_ms: int) -> list[Message]:
        wanted = [call for name, call in self._open.items() if name in ids]
        there = self._replies([call for call in wanted if call.participant], wait_ms) if wanted else {}
        pulled = []
        for call in wanted:
            reply = there.get(call.message_id) or self._given_up(call)
            if reply is not None:
                del self._open[call.message_id]
                pulled.append(reply)
        return pulled

    def _given_up(self, call: OpenCall) -> Message | None:
        number = call.message.metadata.dst_node_id
        if not call.participant:
            return error_reply(call.message, NOBODY, f"node {number} does not take part in {self.name}")
        if self._clock() > call.until_ms:
            return error_reply(call.message, NO_REPLY, f"{call.participant} has not replied in time")
        return None


def _check(message: Message) -> None:
    told = message.metadata
    if told.message_id or told.reply_to_message_id or not message.has_content():
        raise ValueError(f"message {told.message_type} to {told.dst_node_id}: allowed is one that was not sent yet")
    if not 0 < told.ttl <= MOST_TTL_S:
        raise ValueError(f"ttl of {told.ttl:g} s: allowed are up to {counted(MOST_TTL_S, 'second')}")
