"""A grid without a way: it runs the client apps in this process, one after the other."""

from collections.abc import Iterable, Mapping, Sequence

from flwr.app import Message

from thalweg.flower.client_node import ClientNode
from thalweg.flower.exact_grid import ExactGrid, OpenCall
from thalweg.flower.wire import from_wire
from thalweg.sync.clock import Clock, steady_clock, system_clock


class LocalGrid(ExactGrid):
    """Participants in this process. What it does to messages, and nothing else, is what the way over topics does."""

    def __init__(
        self, run: str, nodes: Iterable[ClientNode], *, clock: Clock = system_clock, steady: Clock = steady_clock
    ) -> None:
        """Begin a run.

        Args:
            run: its name.
            nodes: who takes part, each with its app.
            clock: the wall clock.
            steady: a clock that never steps.
        """
        super().__init__(run, clock=clock, steady=steady)
        self._nodes = {node.name: node for node in nodes}

    def members(self) -> Sequence[str]:
        """Names of who takes part."""
        return tuple(self._nodes)

    def _send(self, calls: Sequence[OpenCall]) -> None:
        """Do nothing: they are answered when somebody asks for replies."""

    def _replies(self, calls: Sequence[OpenCall], wait_ms: int) -> Mapping[str, Message]:
        return {
            call.message_id: from_wire(self._nodes[call.participant].answer(call.asked))
            for call in calls
            if self._clock() <= call.until_ms
        }
