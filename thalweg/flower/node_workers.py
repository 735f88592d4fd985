"""Client nodes in processes of this machine: each has some of them, with their states, for as long as it lives."""

import multiprocessing
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

from thalweg.flower.client_node import ClientNode
from thalweg.flower.wire import WireMessage

Asked = tuple[str, WireMessage]
"""Whom, and what."""


class WorkerGoneError(Exception):
    """A process with client apps has ended, and their states with it; the text names whose."""


class NodeWorkers:
    """Processes that answer. They end with whoever made them."""

    def __init__(self, nodes: Sequence[ClientNode], processes: int) -> None:
        """Start them.

        Args:
            nodes: dealt out in turn. Apps need not be written down: the processes are forks of this one.
            processes: how many.
        """
        context = multiprocessing.get_context("fork")
        self._connections: list[Connection] = []
        self._place: dict[str, int] = {}
        for number in range(processes):
            own = {node.name: node for node in nodes[number::processes]}
            here, there = context.Pipe()
            # A fork holds the ends of those before it: it lets go of them, or they would not notice this one's end.
            arguments = (own, there, [*self._connections, here])
            context.Process(target=_answer_all, args=arguments, daemon=True).start()
            there.close()
            self._connections.append(here)
            self._place |= dict.fromkeys(own, number)

    def answers(self, asked: Sequence[Asked]) -> list[WireMessage]:
        """Let all answer, at once; in the order of what was asked.

        Raises:
            WorkerGoneError: a process has ended.
        """
        dealt: dict[int, list[int]] = {}
        for index, (name, _) in enumerate(asked):
            dealt.setdefault(self._place[name], []).append(index)
        found: dict[int, WireMessage] = {}
        try:
            for number, indices in dealt.items():
                self._connections[number].send([asked[index] for index in indices])
            for number, indices in dealt.items():
                found |= zip(indices, self._connections[number].recv(), strict=True)
        except (EOFError, OSError) as error:
            names = sorted(name for name, place in self._place.items() if place == number)
            raise WorkerGoneError(f"the process of {', '.join(names[:5])} has ended: {error!r}") from error
        return [found[index] for index in range(len(asked))]

    def close(self) -> None:
        """Let them end."""
        for connection in self._connections:
            connection.close()


def _answer_all(nodes: Mapping[str, ClientNode], connection: Connection, others: Sequence[Connection]) -> None:
    for other in others:
        other.close()
    with suppress(EOFError, OSError, KeyboardInterrupt):  # whoever asked has gone, while this waited or answered
        while True:
            asked: list[Asked] = connection.recv()
            connection.send([nodes[name].answer(message) for name, message in asked])
