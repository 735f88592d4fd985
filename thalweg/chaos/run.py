"""A chaos from nothing to its document: start, load, hurt, let it heal, ask the rules.

One thread ticks the supervisor and takes every act a step further; the load and the links have theirs.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from thalweg.agent.figures import Figures
from thalweg.chaos.demand import demand, graphs
from thalweg.chaos.evidence import Evidence
from thalweg.chaos.hands import BACK_S, Hands, NotBackError, Steps
from thalweg.chaos.load import ChaosLoad
from thalweg.chaos.points import DRIVER_POINTS, JOBS_POINTS
from thalweg.chaos.programme import AGENTS, ChaosAct, programme
from thalweg.chaos.rules import AuditFindings, audit
from thalweg.chaos.troubled_stack import TroubledStack
from thalweg.conf.settings import KafkaSettings, Settings
from thalweg.demo.load import Mixture, messages
from thalweg.processes.supervisor import ProcessState, Supervisor
from thalweg.query.sql.query import WarehouseUnreadableError, query
from thalweg.scheduling.counted import counted
from thalweg.stack import stack
from thalweg.stack.state import StateFolder
from thalweg.streams.broker.admin import ensure_topics
from thalweg.streams.broker.errors import FenceError, StreamError
from thalweg.sync.clock import Clock

TICK_S: Final = 0.02
LOOK_EVERY_TICKS: Final = 25
LOOK_EVERY_S: Final = 5.0
STILL_S: Final = 180.0
"""In the end everybody is at work and nothing has changed for so long: what is not in order then stays so."""
START_S: Final = 900.0
LONGEST_RUN_S: Final = 20.0
"""Of a task, in real time: long enough to be hurt while it runs."""
TIME_SCALE: Final = 60.0
REGIONS: Final = 4
EVIDENCE: Final = "evidence.sqlite"
MIXTURE: Final = Mixture(repeated=0.05, cancelled=0.04, malformed=0.02, replicated=0.05, gang=0.06)
"""More of what is seldom in a demo."""


class ChaosFailedError(Exception):
    """There was no chaos: the stack did not come up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosPlan:
    """What to do."""

    seed: int
    kills: int
    minutes: float
    rate: float
    """Mean tasks a second."""
    graph_rate: float
    """Mean tasks a second that belong to graphs."""

    def acts(self) -> list[ChaosAct]:
        """Draw the programme."""
        return programme(
            seed=self.seed,
            kills=self.kills,
            minutes=self.minutes,
            driver_points=DRIVER_POINTS,
            jobs_points=JOBS_POINTS,
        )


@dataclass(slots=True, kw_only=True)
class Chaos:
    """One run."""

    plan: ChaosPlan
    stack: TroubledStack
    supervisor: Supervisor
    say: Callable[[str], None]
    interrupted: Callable[[], bool]
    clock: Clock
    evidence: Evidence
    done: Counter[str] = field(default_factory=Counter)
    trouble: list[str] = field(default_factory=list)
    """What the rules do not see: who does not come back, what could not be done."""
    recovery_s: dict[str, list[float]] = field(default_factory=dict)
    """How long processes took from their end to being at work again."""
    began_s: float = field(default_factory=time.monotonic)
    killed: int = 0
    missed: Sequence[str] = ()
    """Points of the micro-batch at which nothing died in time."""
    _load: ChaosLoad | None = None
    _down_s: dict[str, float] = field(default_factory=dict)

    @property
    def kafka(self) -> KafkaSettings:
        """The broker, by its own door."""
        address = stack.local_bootstrap(self.stack.folder)
        return self.stack.settings.kafka.model_copy(update={"bootstrap_servers": address})

    @property
    def load(self) -> ChaosLoad:
        """The load; there is one from the moment the stack is up."""
        assert self._load is not None
        return self._load

    def run(self) -> dict[str, Any]:
        """Do it all, and say in figures what came of it.

        Raises:
            ChaosFailedError: the stack did not come up, or nothing was placed.
        """
        self.evidence.read_fleet(self.stack.nodes())
        self._begin()
        self._go_through(self.plan.acts())
        self._say("asked to stop: auditing what happened so far" if self.interrupted() else "all is done: it may heal")
        return self._document(self._settle())

    # The beginning

    def _begin(self) -> None:
        self._say("starting a broker, three jobs' drivers, upkeep and two agents")
        self._wait(lambda: self.supervisor.processes["broker"].state is ProcessState.READY, "the broker")
        ensure_topics(self.kafka, self.stack.regions)
        self._wait(self.supervisor.all_ready, "every process")
        run = f"chaos{self.plan.seed}"
        tasks = messages(
            self.stack.figures,
            self.stack.regions,
            rate_per_s=self.plan.rate,
            seed=self.plan.seed,
            run=run,
            mixture=MIXTURE,
        )
        in_graphs = graphs(rate_per_s=self.plan.graph_rate, seed=self.plan.seed, run=run, time_scale=TIME_SCALE)
        self._load = ChaosLoad(
            kafka=self.kafka,
            messages=demand(tasks, in_graphs, LONGEST_RUN_S * TIME_SCALE),
            regions=self.stack.regions,
            clock=self.clock,
        )
        self._load.start()
        self._wait(self._anything_placed, "the first assignment")
        self._say(f"first assignment; {self.plan.rate:g} tasks/s and {self.plan.graph_rate:g} in graphs from now on")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + START_S
        while not condition():
            if self.interrupted() or time.monotonic() > until:
                why = "interrupted" if self.interrupted() else f"not within {START_S:.0f} s"
                raise ChaosFailedError(f"waited for {what}: {why}. The logs are in {self.stack.folder.path / 'logs'}")
            for _ in range(LOOK_EVERY_TICKS):
                self._tick()

    def _anything_placed(self) -> bool:
        asked = "SELECT count(*) AS n FROM decisions WHERE transition = 'assigned'"
        return bool(query(asked, self.stack.warehouse).dicts()[0]["n"])

    # The middle

    def _go_through(self, acts: Sequence[ChaosAct]) -> None:
        hands = Hands(
            stack=self.stack,
            supervisor=self.supervisor,
            load=self.load,
            kafka=lambda: self.kafka,
            say=self._say,
            before_topic_goes=lambda: self.evidence.read_topics(self.kafka),
        )
        begun_s, waiting, going = time.monotonic(), list(acts), list[tuple[ChaosAct, Steps]]()
        try:
            while (waiting or going) and not self.interrupted():
                while waiting and time.monotonic() - begun_s >= waiting[0].at_s:
                    act = waiting.pop(0)
                    self._say(act.in_words())
                    going.append((act, hands.do(act)))
                self._tick()
                hands.look()
                going = [(act, steps) for act, steps in going if self._goes_on(act, steps)]
        finally:
            for _, steps in going:
                steps.close()
        self.killed, self.missed = hands.killed, hands.missed

    def _goes_on(self, act: ChaosAct, steps: Steps) -> bool:
        """Take an act one step further; say whether there is more to come."""
        try:
            next(steps)
        except StopIteration:
            self.done[f"kill {act.who}" if act.what == "kill" else act.what] += 1
            return False
        except NotBackError as error:
            self.trouble.append(str(error))
            return False
        except (StreamError, OSError) as error:
            self._say(f"could not be done now ({act.in_words()}): {error}")
            return False
        return True

    def _tick(self) -> None:
        self.supervisor.tick()
        if self._load is not None:
            for table, key in self._load.acknowledged():
                self.evidence.add(table, [(key,)])
        self._note_recoveries()
        time.sleep(TICK_S)

    def _note_recoveries(self) -> None:
        for name, process in self.supervisor.processes.items():
            if process.state is ProcessState.READY:
                if (since := self._down_s.pop(name, None)) is not None:
                    took = time.monotonic() - since
                    self.recovery_s[name].append(took)
                    self._say(f"{name} is at work again after {took:.1f} s")
                elif name not in self.recovery_s:
                    self.recovery_s[name] = []
                    self._say(f"{name} is at work")
            elif name in self.recovery_s and name not in self._down_s:
                self._down_s[name] = time.monotonic()
                self._say(f"{name} is down: {process.last_failure}")

    # The end

    def _settle(self) -> AuditFindings:
        """Send what waits, and look until all is in order and over, or nothing changes any more."""
        self.load.finish()
        changed_s, looked_s = time.monotonic(), 0.0
        last: object = None
        findings: AuditFindings | None = None
        while findings is None or time.monotonic() - changed_s < STILL_S:
            self._tick()
            if self._somebody_comes_back():
                changed_s = time.monotonic()
            if time.monotonic() - looked_s < LOOK_EVERY_S:
                continue
            looked_s = time.monotonic()
            try:
                findings = self._look()
            except FenceError:
                raise  # an agent's file that is damaged stays so
            except (StreamError, WarehouseUnreadableError) as error:
                self._say(f"cannot be read yet: {error}")
                continue
            if not findings.violations and not findings.standing and self.load.is_over():
                return findings
            if (now := (findings.rows, findings.standing, tuple(findings.violations))) != last:
                last, changed_s = now, time.monotonic()
                first = f", first {findings.violations[0]}" if findings.violations else ""
                running = counted(findings.standing, "task runs", "tasks run")
                self._say(f"{running}, {len(findings.violations)} not in order{first}")
        return findings

    def _somebody_comes_back(self) -> bool:
        """Say whether a process is down and may be expected: until then it is no wonder that nothing moves."""
        return any(time.monotonic() - since < BACK_S for since in self._down_s.values())

    def _look(self) -> AuditFindings:
        folder = self.stack.folder.path
        self.evidence.forget()
        self.evidence.read_tables(self.stack.warehouse)
        self.evidence.read_topics(self.kafka)
        current = [self.stack.agent_folder(name) for name in AGENTS]
        others = [path for parent in ("set-aside", "agents") for path in _folders(folder / parent)]
        self.evidence.read_agents(current, others)
        self.evidence.read_machines(folder / "journals")
        return audit(self.evidence)

    def _document(self, findings: AuditFindings) -> dict[str, Any]:
        standing = (
            [f"lost: {counted(findings.standing, 'task runs', 'tasks run')} for ever"] if findings.standing else []
        )
        unsent = [] if self.load.is_over() else ["lost: the broker does not take what is sent"]
        violations = [*self.trouble, *findings.violations, *standing, *unsent]
        return {
            "seed": self.plan.seed,
            "acts": dict(sorted(self.done.items())),
            "accepted": findings.accepted,
            "placed": findings.placed,
            "graph_tasks": findings.in_graphs,
            "graph_ended": findings.graphs_ended,
            "lost": findings.by_kind["lost"],
            "double_effects": findings.by_kind["double"],
            "over_commitments": findings.by_kind["over"],
            "orphans": findings.by_kind["orphan"],
            "early_starts": findings.by_kind["early"],
            "violations": violations,
            "ok": not violations,
        }

    def _say(self, message: str) -> None:
        self.say(f"[{time.monotonic() - self.began_s:6.1f} s] {message}")


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosReport:
    """What came of a chaos."""

    document: dict[str, Any]
    """In the form that is promised (`thalweg chaos --json`)."""
    details: dict[str, Any]
    """What a record keeps beside it."""


def run_chaos(
    plan: ChaosPlan,
    *,
    folder: StateFolder,
    settings: Settings,
    figures: Figures,
    say: Callable[[str], None],
    interrupted: Callable[[], bool],
    clock: Clock,
) -> ChaosReport:
    """Run a chaos in a state folder, which is made anew.

    Raises:
        ChaosFailedError, ChildFailedError, StateFolderError, StreamError: there was none.
    """
    troubled = TroubledStack(
        folder=folder,
        settings=settings,
        figures=figures,
        regions=figures.regions[:REGIONS],
        time_scale=TIME_SCALE,
        seed=plan.seed,
    )
    with troubled, stack.running(folder, troubled.specs, say=say) as supervisor:
        chaos = Chaos(
            plan=plan,
            stack=troubled,
            supervisor=supervisor,
            say=say,
            interrupted=interrupted,
            clock=clock,
            evidence=Evidence(folder.path / EVIDENCE),
        )
        document = chaos.run()
    return ChaosReport(document=document, details=_details(chaos))


def _details(chaos: Chaos) -> dict[str, Any]:
    return {
        "kills_asked": chaos.plan.kills,
        "minutes_asked": chaos.plan.minutes,
        "tasks_a_second": chaos.plan.rate,
        "graph_tasks_a_second": chaos.plan.graph_rate,
        "seconds": round(time.monotonic() - chaos.began_s, 1),
        "processes_killed": chaos.killed,
        "points_missed": list(chaos.missed),
        "back_at_work_s": {name: sorted(round(s, 1) for s in times) for name, times in chaos.recovery_s.items()},
        "programme": [act.in_words() for act in chaos.plan.acts()],
    }
