"""A grid without a way: it runs the client apps here, one after the other, or in processes of this machine."""

from collections.abc import Iterable, Mapping, Sequence

from flwr.app import Message

from thalweg.flower.client_node import ClientNode
from thalweg.flower.exact_grid import ExactGrid, OpenCall
from thalweg.flower.node_workers import NodeWorkers
from thalweg.flower.wire import from_wire
from thalweg.sync.clock import Clock, steady_clock, system_clock


class LocalGrid(ExactGrid):
    """Participants in this process. What it does to messages, and nothing else, is what the way over topics does."""

    def __init__(
        self,
        run: str,
        nodes: Iterable[ClientNode],
        *,
        processes: int = 1,
        clock: Clock = system_clock,
        steady: Clock = steady_clock,
    ) -> None:
        """Begin a run.

        Args:
            run: its name.
            nodes: who takes part, each with its app.
            processes: in how many the apps run; 1 is this one. The bits are the same.
            clock: the wall clock.
            steady: a clock that never steps.
        """
        super().__init__(run, clock=clock, steady=steady)
        self._nodes = {node.name: node for node in nodes}
        self._workers = NodeWorkers(list(self._nodes.values()), processes) if processes > 1 else None

    def members(self) -> Sequence[str]:
        """Names of who takes part."""
        return tuple(self._nodes)

    def close(self) -> None:
        """Let the processes end, where there are some."""
        if self._workers is not None:
            self._workers.close()

    def _send(self, calls: Sequence[OpenCall]) -> None:
        """Do nothing: they are answered when somebody asks for replies."""

    def _replies(self, calls: Sequence[OpenCall], wait_ms: int) -> Mapping[str, Message]:
        now_ms = self._clock()
        asked = {call.message_id: (call.participant, call.asked) for call in calls if now_ms <= call.until_ms}
        if self._workers is not None:
            answers = self._workers.answers(list(asked.values()))
        else:
            answers = [self._nodes[name].answer(message) for name, message in asked.values()]
        return {name: from_wire(answer) for name, answer in zip(asked, answers, strict=True)}
