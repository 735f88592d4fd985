"""Several brokers that keep copies of each other's records: each a process of its own, and a controller as well.

The local stack has one broker. What the pages promise of a cluster is shown with these (`tests/acceptance`,
`benchmarks/brokers`): processes that can be killed one by one, on one machine.
"""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from thalweg.conf.environment import JarSet, find_java, jar_paths
from thalweg.processes.children import Child
from thalweg.processes.ports import free_port, keep, let_go
from thalweg.stack.broker import BrokerPorts, Membership, broker_spec, new_cluster_id

USUAL = 3
"""Copies that outlive one broker, and say so: two that agree are more than half."""


class Brokers:
    """Brokers for the length of a ``with``; their records stay in the folder while they are killed and started."""

    def __init__(self, folder: Path, count: int = USUAL) -> None:
        """Choose their ports; nothing starts yet. They stay the same: each is written in the settings of all."""
        taken: list[int] = []
        for _ in range(2 * count):
            taken.append(free_port(taken=taken))
        keep(*taken)
        self._folder = folder
        self._java = find_java()
        self._jars = jar_paths(JarSet.BROKER)
        self._ports = {
            number: BrokerPorts(clients=taken[2 * number - 2], controller=taken[2 * number - 1])
            for number in range(1, count + 1)
        }
        self._cluster = new_cluster_id()
        self._running: dict[int, Child] = {}

    @property
    def bootstrap(self) -> str:
        """Return every broker's address, as clients are given them."""
        return ",".join(ports.bootstrap for ports in self._ports.values())

    @property
    def numbers(self) -> tuple[int, ...]:
        """Return the brokers' numbers, which are their node ids."""
        return tuple(self._ports)

    def start(self, *numbers: int) -> None:
        """Start these, or all, and wait until each serves clients.

        Raises:
            ChildFailedError: One ended or was not ready in time.
            BrokerSetupError: A storage could not be made.
        """
        begun = [number for number in numbers or self.numbers if number not in self._running]
        try:
            for number in begun:  # all before any is waited for: alone none is more than half
                self._running[number] = self._started(number)
            for number in begun:
                self._running[number].wait_ready()
        except BaseException:
            self.stop()
            raise

    def _started(self, number: int) -> Child:
        folder = self._folder / f"broker-{number}"
        member = Membership(
            number=number,
            controllers={other: ports.controller for other, ports in self._ports.items()},
            cluster=self._cluster,
        )
        spec = broker_spec(folder, self._ports[number], java=self._java, jars=self._jars, member=member)
        return Child(spec, folder / "broker.log")

    def kill(self, number: int) -> None:
        """End one as a power cut would."""
        self._running.pop(number).kill()

    def stop(self) -> None:
        """End all that run, in order."""
        for child in self._each():
            child.ask_to_stop()
        for child in self._each():
            child.wait_stopped()
        self._running.clear()

    def _each(self) -> Iterator[Child]:
        yield from self._running.values()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for ports in self._ports.values():
            let_go(ports.clients, ports.controller)
