"""A region's machines and its agent's lives: the real agent, its file, and processes that take a while to end."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from thalweg.agent.agent import RegionalAgent
from thalweg.agent.fleet import RegionFleet
from thalweg.agent.runners import Ended, RunKey, RunProgress
from thalweg.agent.store import AgentStore
from thalweg.agent.tenure import SupersededError
from thalweg.conf.settings import Settings
from thalweg.proof.wire import Wire
from thalweg.proof.witness import RunEnd, Witness
from thalweg.streams.contract.messages import AssignmentEvent
from thalweg.streams.contract.topics import ASSIGNMENTS, STATUS, topic_name

FAILS: Final = 0.1
"""Share of the runs that fail."""


@dataclass(slots=True)
class Processes:
    """Runs whose length, outcome and slowness to stop are drawn from the run's own name: a `Runner`.

    They die with their agent's machine (`die`) or go on without it, as a container engine's do.
    """

    seed: int
    witness: Witness
    reach: Callable[[str], None]
    survives_restart: bool
    name: str = "witnessed"
    needs_command: bool = False
    starts_at_once: int = 1_000_000
    running: dict[RunKey, tuple[int, bool]] = field(default_factory=dict)
    """When each ends by itself, and whether well."""
    stopping: dict[RunKey, int] = field(default_factory=dict)
    made: set[RunKey] = field(default_factory=set)
    """Begun on this machine: a copied file may speak of another's."""

    def start(self, event: AssignmentEvent, now_ms: int) -> int | None:
        """Begin a process."""
        self.reach("before start")
        self._begin(event, now_ms)
        self._make(event)
        self.reach("after start")
        return None

    def resume(self, event: AssignmentEvent, started_ms: int) -> None:
        """Find it again: it went on meanwhile. One that its agent died before starting begins now."""
        key = (event.region, event.task_id, event.epoch)
        if key not in self.running:
            self._begin(event, started_ms)
            if key not in self.witness.begun:
                self._make(event)

    def _make(self, event: AssignmentEvent) -> None:
        self.made.add((event.region, event.task_id, event.epoch))
        self.witness.begin(event)

    def _see_end(self, key: RunKey, how: RunEnd) -> None:
        if key in self.made:
            self.witness.end(key, how)

    def _begin(self, event: AssignmentEvent, now_ms: int) -> None:
        key = (event.region, event.task_id, event.epoch)
        drawn = Random(f"{self.seed}/{key}")
        self.running[key] = (
            now_ms + round(event.expected_s * drawn.uniform(0.5, 1.5) * 1_000),
            drawn.random() >= FAILS,
        )

    def stop(self, key: RunKey, now_ms: int) -> bool:
        """Ask it to end: half of them take a while."""
        if key not in self.running:
            return True
        if Random(f"{self.seed}/stop/{key}").random() < 0.5:
            del self.running[key]
            self._see_end(key, "stopped")
            return True
        self.stopping[key] = now_ms + 2_000
        return False

    def ended(self, now_ms: int) -> list[Ended]:
        """Tell which ended since the last call."""
        over = [Ended(key=key, succeeded=False) for key, at in sorted(self.stopping.items()) if at <= now_ms]
        for key in [one.key for one in over]:
            del self.stopping[key]
            self.running.pop(key, None)
            self._see_end(key, "stopped")
        for key, (at, well) in sorted(self.running.items()):
            if at <= now_ms and key not in self.stopping:
                over.append(Ended(key=key, succeeded=well, exit_code=0 if well else 1))
        for one in over:
            if self.running.pop(one.key, None) is not None:
                self.witness.end(one.key, "succeeded" if one.succeeded else "failed")
        return over

    def progress(self, key: RunKey, now_ms: int) -> RunProgress | None:
        """Nobody knows."""
        return None

    def clear_leftovers(self) -> int:
        """Nothing is left over: what dies with the agent has died."""
        return 0

    def close(self) -> list[Ended]:
        """Stop everything that does not outlive the agent."""
        if not self.survives_restart:
            self.die()
        return []

    def die(self) -> None:
        """End at once, with the machine."""
        for key in list(self.running):
            self._see_end(key, "died")
        self.running.clear()
        self.stopping.clear()


@dataclass(slots=True, kw_only=True)
class Region:
    """One region's agent, which can be killed and started again on the same file or on another."""

    fleet: RegionFleet
    settings: Settings
    folder: Path
    wire: Wire
    processes: Processes
    clock: Callable[[], int]
    steady: Callable[[], int]
    name: str
    """Of this agent among those that call themselves the region's."""
    superseded: bool = False
    """Whether it has ended for good, because a younger agent hosts the region."""
    lives: int = 0
    agent: RegionalAgent | None = None
    store: AgentStore | None = None

    def step(self) -> None:
        """Go one round; a dead agent begins its next life first."""
        if self.agent is None:
            self._begin()
        assert self.agent is not None
        try:
            self.agent.step(0)
        except SupersededError:
            self.superseded, self.agent, self.store = True, None, None
            self.processes.die()

    def _begin(self) -> None:
        reach, prefix = self.wire.points.reach, self.settings.kafka.topic_prefix
        reach("start")
        self.lives += 1
        self.store = AgentStore(self.folder)
        self.agent = RegionalAgent(
            [self.fleet],
            settings=self.settings.agent,
            prefix=prefix,
            agent_id=f"{self.name}-{self.lives}",
            store=self.store,
            reader=self.wire.reader(
                [topic_name(contract, prefix, self.fleet.region) for contract in (ASSIGNMENTS, STATUS)],
                self.store.fence.next_offset,
            ),
            publisher=self.wire,
            runner=self.processes,
            clock=self.clock,
            topic_ids={},
            steady=self._mortal_steady,
        )
        self.agent.resume()

    def _mortal_steady(self) -> int:
        """Read the steady clock: it is read all over a step, within its transaction too."""
        self.wire.points.reach("step")
        return self.steady()

    def dies(self) -> None:
        """Lose what was in memory; the file is as its last commit left it."""
        if self.store is not None:
            self.store.close()
        self.agent = self.store = None
        if not self.processes.survives_restart:
            self.processes.die()

    def backs_up(self, to: Path) -> None:
        """Copy the file as it lies there, as a backup of a running machine does."""
        if self.folder.exists():
            shutil.copytree(self.folder, to, dirs_exist_ok=True)

    def loses_its_disk(self, put_back: Path | None = None) -> None:
        """Lose the machine: its processes, and its file or all that came since the copy that is put back."""
        self.dies()
        self.processes.die()
        shutil.rmtree(self.folder, ignore_errors=True)
        if put_back is not None and put_back.exists():
            shutil.copytree(put_back, self.folder)

    def stops(self) -> None:
        """Stop in order."""
        if self.agent is not None:
            self.agent.stop()
        self.agent = self.store = None
