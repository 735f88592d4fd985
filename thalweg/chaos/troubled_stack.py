"""The stack that is hurt: broker, drivers, other jobs, upkeep, agents, behind links and with pages of troubles.

It is the product's own, but for how its processes are started (`troubled`), where they reach the broker (`link`), and
how often the supervisor tries again.
"""

import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from thalweg.agent.figures import Figures
from thalweg.agent.fleet import NodeSpec, RegionFleet, simulated_fleet
from thalweg.chaos.link import Link
from thalweg.chaos.panel import PANEL, Panel
from thalweg.chaos.programme import AGENTS, BROKER, DRIVER, JOBS
from thalweg.chaos.troubled import JOURNALS
from thalweg.conf.settings import Settings
from thalweg.processes.children import ProcessSpec, RestartPolicy
from thalweg.processes.ports import LOOPBACK, free_port
from thalweg.scheduling.ids import RegionId
from thalweg.stack import stack
from thalweg.stack.broker import BrokerDoor
from thalweg.stack.state import StateFolder

DRIVERS: Final = ("place-1", "place-2")
LINKS: Final[Mapping[str, Sequence[str]]] = {
    DRIVER: DRIVERS,
    JOBS: (JOBS,),
    **{agent: (agent,) for agent in AGENTS},
}
"""Which processes are behind which link."""

UNDAUNTED: Final = RestartPolicy(
    max_restarts=100_000, max_restarts_before_ready=100_000, first_delay_seconds=1.0, max_delay_seconds=4.0
)
"""Killed on purpose is no reason to give up."""

PATIENT_S: Final = 900.0
"""Four JVMs on two cores, some of them always at their start: nobody is ended for being slow."""

PARENT_WAIT_MS: Final = 20_000
"""Longer than any of the load's messages is late, and short enough to see at the end who waited for nobody."""

OWN: Final = ("broker", "warehouse", "checkpoints", "agents", "logs", "panels", "journals", "set-aside")
"""Folders that are made anew."""


@dataclass(slots=True, kw_only=True)
class TroubledStack(AbstractContextManager["TroubledStack"]):
    """What runs, and the handles by which it is hurt. Links relay for the length of a `with`."""

    folder: StateFolder
    settings: Settings
    figures: Figures
    regions: Sequence[str]
    time_scale: float
    seed: int
    links: dict[str, Link] = field(default_factory=dict)
    panels: dict[str, Panel] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        """Lay the links."""
        taken: list[int] = []
        for name in LINKS:
            for _ in range(2):
                taken.append(free_port(taken=taken))
            self.links[name] = self._open.enter_context(Link(name=name, listens=taken[-2], to=taken[-1]))
        # Not Kafka's own port: whoever starts a stack while this broker is dead would take it.
        kafka = free_port(taken=taken)
        self.folder.remember_ports({"kafka": kafka, "controller": free_port(taken=[*taken, kafka])})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the links."""
        self._open.close()

    # What is where

    @property
    def warehouse(self) -> str:
        """Where the tables are."""
        return str(self.folder.path / "warehouse")

    def checkpoint(self, flow: str) -> Path:
        """Folder of a query's checkpoint."""
        return self.folder.path / "checkpoints" / flow

    def agent_folder(self, agent: str) -> Path:
        """Folder of an agent's file."""
        return self.folder.path / "agents" / agent

    def regions_of(self, agent: str) -> list[str]:
        """Regions that an agent hosts."""
        return list(self.regions[AGENTS.index(agent) :: len(AGENTS)])

    def nodes(self) -> dict[tuple[str, str], NodeSpec]:
        """Every machine, by region and id."""
        fleets: Iterable[RegionFleet] = (simulated_fleet(RegionId(name), self.figures) for name in self.regions)
        return {(fleet.region, node_id): node for fleet in fleets for node_id, node in fleet.nodes.items()}

    # What runs

    def specs(self) -> list[ProcessSpec]:
        """Clear the folder, which is ours and in which nothing runs, and say what is to run."""
        for name in OWN:
            shutil.rmtree(self.folder.path / name, ignore_errors=True)
        self.panels = {name: Panel(self.folder.path / "panels" / name) for name in (*DRIVERS, JOBS, *AGENTS)}
        doors = [
            BrokerDoor(name=f"DOOR{n}", listens=link.to, told=link.listens)
            for n, link in enumerate(self.links.values())
        ]
        broker = stack.local_broker(self.folder, doors)
        return [
            _undaunted(broker),
            *(self._job(name, "place", DRIVER, standby=True) for name in DRIVERS),
            self._job(JOBS, "local", JOBS, standby=True),
            _undaunted(stack.local_maintenance(self.folder, self.settings, (), None)),
            *(self._agent(name, self.regions_of(name), self.agent_folder(name)) for name in AGENTS),
        ]

    def second_driver(self) -> ProcessSpec:
        """One that nobody told that another works."""
        return self._job("second-driver", "place", DRIVER, standby=False)

    def second_agent(self, beside: str) -> ProcessSpec:
        """One that hosts a region that another hosts."""
        name = f"second-{beside}"
        return self._agent(name, self.regions_of(beside)[:1], self.agent_folder(name), link=beside)

    def _job(self, name: str, module: str, link: str, *, standby: bool) -> ProcessSpec:
        overrides = [
            f"place.standby={str(standby).lower()}",
            "place.takeover_ms=10000",
            f"place.parent_wait_ms={PARENT_WAIT_MS}",
        ]
        spec = stack.local_jobs(self.folder, self.settings, overrides, None, name=name, module=module)
        return _undaunted(self._troubled(spec, link))

    def _agent(self, name: str, regions: Sequence[str], folder: Path, link: str | None = None) -> ProcessSpec:
        argv = [sys.executable, "-P", "-m", "thalweg.cli.main", "agent", "--state", str(folder)]
        for region in regions:
            argv += ["--region", region]
        argv += ["--time-scale", str(self.time_scale), "--failure-share", "0.01", "--seed", str(self.seed)]
        spec = ProcessSpec(name=name, argv=tuple(argv), needs=(BROKER,), announces_ready=True)
        return _undaunted(self._troubled(spec, link or name))

    def _troubled(self, spec: ProcessSpec, link: str) -> ProcessSpec:
        """Start it by way of `troubled`, with a page of its own, behind a link."""
        at = spec.argv.index("-m") + 1
        address = f"kafka.bootstrap_servers={LOOPBACK}:{self.links[link].listens}"
        panels, journals = self.folder.path / "panels", self.folder.path / "journals"
        again = spec.again
        return replace(
            spec,
            argv=(*spec.argv[:at], "thalweg.chaos.troubled", *spec.argv[at:], "--set", address),
            env={**spec.env, PANEL: str(panels / spec.name), JOURNALS: str(journals / spec.name)},
            again=None if again is None else lambda: self._troubled(again(), link),
        )


def _undaunted(spec: ProcessSpec) -> ProcessSpec:
    again: Callable[[], ProcessSpec] | None = spec.again
    return replace(
        spec,
        restart=UNDAUNTED,
        ready_timeout_seconds=PATIENT_S,
        again=None if again is None else lambda: _undaunted(again()),
    )
