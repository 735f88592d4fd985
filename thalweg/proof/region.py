"""A region's machines and its agent's lives: the real agent, its file, and processes that take a while to end."""

import shutil
from collections.abc import Callable, Collection
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
from thalweg.proof.witness import AGENT_ENDED, Witness
from thalweg.scheduling.ids import RegionId
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
    machine: list["Processes"] = field(default_factory=list)
    """Of all agents of the region, these among them: they are on one machine, each with a folder of its own."""
    gone: dict[RunKey, bool] = field(default_factory=dict)
    """Ended while nobody looked, or by what is no affair of this agent's; whether well."""

    def start(self, event: AssignmentEvent, now_ms: int) -> int | None:
        """Begin a process."""
        self.reach("before start")
        self._begin(event, now_ms)
        self.witness.begin(event)
        self.reach("after start")
        return None

    def resume(self, event: AssignmentEvent, started_ms: int) -> None:
        """Find it again: it went on meanwhile, or is gone. One that its agent died before starting begins now."""
        key = (event.region, event.task_id, event.epoch)
        if key in self.running:
            return
        if key in self.witness.begun:
            self.gone[key] = self.witness.ends.get(key) == "succeeded"
        else:
            self._begin(event, started_ms)
            self.witness.begin(event)

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
        if self._takes_ms(key) == 0:
            del self.running[key]
            self.witness.end(key, "stopped")
            return True
        self.stopping[key] = now_ms + self._takes_ms(key)
        return False

    def _takes_ms(self, key: RunKey) -> int:
        """Tell how long it takes to end when it is asked to."""
        return 0 if Random(f"{self.seed}/stop/{key}").random() < 0.5 else 2_000

    def ended(self, now_ms: int) -> list[Ended]:
        """Tell which ended since the last call."""
        gone = [Ended(key=key, succeeded=well, detail=AGENT_ENDED) for key, well in sorted(self.gone.items())]
        self.gone.clear()
        over = [Ended(key=key, succeeded=False) for key, at in sorted(self.stopping.items()) if at <= now_ms]
        for key in [one.key for one in over]:
            del self.stopping[key]
            self.running.pop(key, None)
            self.witness.end(key, "stopped")
        for key, (at, well) in sorted(self.running.items()):
            if at <= now_ms and key not in self.stopping:
                over.append(Ended(key=key, succeeded=well, exit_code=0 if well else 1))
        for one in over:
            if self.running.pop(one.key, None) is not None:
                self.witness.end(one.key, "succeeded" if one.succeeded else "failed")
        return gone + over

    def progress(self, key: RunKey, now_ms: int) -> RunProgress | None:
        """Nobody knows."""
        return None

    def take_over(self, installation: str, regions: Collection[RegionId], now_ms: int) -> int:
        """End what the region's other agents left running; what is asked to end may take a while, as in `stop`."""
        return sum(other.is_taken_over(now_ms) for other in self.machine if other is not self)

    def is_taken_over(self, now_ms: int) -> int:
        """Be asked by another agent to end, whatever one's own does; return how many processes there were."""
        there = list(self.running)
        for key in there:
            if self.stopping.setdefault(key, now_ms + self._takes_ms(key)) <= now_ms:
                del self.running[key], self.stopping[key]
                self.witness.end(key, "failed")
                self.gone[key] = False
        return len(there)

    def close(self, *, give_up_all: bool = False) -> list[Ended]:
        """Stop everything that does not outlive the agent, or all."""
        if give_up_all or not self.survives_restart:
            self.die()
        return []

    def die(self) -> None:
        """End at once, with the machine."""
        for key in list(self.running):
            self.witness.end(key, "died")
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
