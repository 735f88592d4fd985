"""How each act is done: a generator that goes on for as long as the trouble lasts, and mends what it broke at its end.

Closed early, it mends too. The supervisor is ticked between two steps, in the same thread: what was killed is not
started again before its files have been put back.
"""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import psutil

from thalweg.agent.store import FILE_NAME
from thalweg.chaos.load import ChaosLoad
from thalweg.chaos.points import POINTS
from thalweg.chaos.programme import BROKER, DRIVER, JOBS, STANDBY, ChaosAct
from thalweg.chaos.topics import made_anew, repeated
from thalweg.chaos.troubled_stack import DRIVERS, TroubledStack
from thalweg.conf.settings import KafkaSettings
from thalweg.processes.children import Child, ProcessSpec
from thalweg.processes.supervisor import ProcessState, Supervised, Supervisor
from thalweg.streams.placement.fence import open_to_read

BACK_S: Final = 600.0
"""So long after it was hurt, or another was, a process must be at work again."""
POINT_S: Final = 30.0
"""So long a point is waited for; then the process is killed wherever it is."""

Steps = Generator[None, None, None]


class NotBackError(Exception):
    """A process does not come back."""

    def __init__(self, role: str, log: str) -> None:
        super().__init__(f"stuck: {role} was not at work again within {BACK_S:.0f} s; see {log}")


@dataclass(slots=True, kw_only=True)
class Hands:
    """Does what a programme says to the stack."""

    stack: TroubledStack
    supervisor: Supervisor
    load: ChaosLoad
    kafka: Callable[[], KafkaSettings]
    say: Callable[[str], None]
    before_topic_goes: Callable[[], None]
    killed: int = 0
    """Processes of the stack that were killed, for whatever act."""
    missed: list[str] = field(default_factory=list)
    """Points at which nothing died in time."""
    _batches: dict[str, int] = field(default_factory=dict)
    _moved_s: dict[str, float] = field(default_factory=dict)

    def do(self, act: ChaosAct) -> Steps:
        """Do one act, step by step.

        Raises:
            NotBackError: whom it is meant for does not come back.
        """
        acts: Mapping[str, Callable[[ChaosAct], Steps]] = {
            "kill": self._kill,
            "freeze": self._freeze,
            "freeze driver until it is overtaken": self._freeze,
            "slow disk": self._slow_disk,
            "full disk": self._full_disk,
            "cut network": self._bad_link,
            "half-open network": self._bad_link,
            "slow network": self._bad_link,
            "delivery delayed": self._delay,
            "delivery repeated": self._repeat,
            "clock step": self._wrong_clock,
            "commit file deleted": self._delete_commit,
            "checkpoint put back": self._put_checkpoint_back,
            "table's checkpoint pointer deleted": self._delete_pointer,
            "agent's file put back": self._put_file_back,
            "topic made anew": self._make_topic_anew,
            "second driver": self._second_driver,
            "second agent": self._second_agent,
        }
        return acts[act.what](act)

    # Who

    def look(self) -> None:
        """See which driver works: the one whose batches were counted last."""
        for name in DRIVERS:
            batches = self.stack.panels[name].batches
            if self._batches.get(name, 0) != batches:
                self._batches[name], self._moved_s[name] = batches, time.monotonic()

    def _working_driver(self) -> str:
        return max(DRIVERS, key=lambda name: self._moved_s.get(name, 0.0))

    def process_of(self, role: str) -> Supervised:
        """Return the process that has a role now."""
        if role == DRIVER:
            name = self._working_driver()
        elif role == STANDBY:
            name = next(name for name in DRIVERS if name != self._working_driver())
        else:
            name = role
        return self.supervisor.processes[name]

    def _at_work(self, role: str) -> Steps:
        """Wait until a role's process is ready."""
        until = time.monotonic() + BACK_S
        while (process := self.process_of(role)).child is None or process.state is not ProcessState.READY:
            if time.monotonic() > until:
                raise NotBackError(role, str(process.log))
            yield

    # Deaths

    def _kill(self, act: ChaosAct) -> Steps:
        yield from self._at_work(act.who)
        victim = self.process_of(act.who)
        if not act.point:
            self._dies(victim)
            return
        name, child = victim.spec.name, victim.child
        self.stack.panels[name].dies_at = POINTS.index(act.point) + 1
        try:
            yield from _until(lambda: child is None or child.exit_code() is not None, POINT_S)
        finally:
            self.stack.panels[name].dies_at = 0
        if child is not None and child.exit_code() is None:
            self.missed.append(act.point)
            self._dies(victim)
        else:
            self.killed += 1

    def _dies(self, victim: Supervised) -> None:
        if victim.child is not None:
            victim.child.kill()
            self.killed += 1

    # Trouble that passes

    def _freeze(self, act: ChaosAct) -> Steps:
        yield from self._at_work(act.who)
        child = self.process_of(act.who).child
        assert child is not None
        _signal(child, signal.SIGSTOP)
        try:
            yield from _for(act.seconds)
        finally:
            _signal(child, signal.SIGCONT)

    def _slow_disk(self, act: ChaosAct) -> Steps:
        return self._turned(act, "disk_ms")

    def _wrong_clock(self, act: ChaosAct) -> Steps:
        return self._turned(act, "clock_ms")

    def _turned(self, act: ChaosAct, what: Literal["disk_ms", "clock_ms"]) -> Steps:
        """Turn one thing on the panels of a role's processes, and back."""
        panels = [self.stack.panels[name] for name in self._names(act.who)]
        try:
            for panel in panels:
                setattr(panel, what, round(act.amount))
            yield from _for(act.seconds)
        finally:
            for panel in panels:
                setattr(panel, what, 0)

    def _full_disk(self, act: ChaosAct) -> Steps:
        """Let no write of the process, nor of what is started in its place, change a file."""
        until = time.monotonic() + act.seconds
        try:
            while time.monotonic() < until:
                self._limit_files(act.who, full=True)
                yield
        finally:
            self._limit_files(act.who, full=False)

    def _limit_files(self, role: str, *, full: bool) -> None:
        for name in self._names(role):
            child = self.supervisor.processes[name].child
            for process in _family(child.pid) if child is not None else ():
                with contextlib.suppress(psutil.Error):
                    _, most = process.rlimit(psutil.RLIMIT_FSIZE)
                    process.rlimit(psutil.RLIMIT_FSIZE, (0 if full else most, most))

    def _bad_link(self, act: ChaosAct) -> Steps:
        link = self.stack.links[act.who]
        try:
            match act.what:
                case "cut network":
                    link.cut()
                case "half-open network":
                    link.half_open()
                case _:
                    link.be_slow(act.amount)
            yield from _for(act.seconds)
        finally:
            link.mend()

    def _delay(self, act: ChaosAct) -> Steps:
        self.load.held = True
        try:
            yield from _for(act.seconds)
        finally:
            self.load.held = False

    def _repeat(self, act: ChaosAct) -> Steps:
        yield from self._at_work(BROKER)
        region = random.Random(act.which).choice(self.stack.regions)
        repeated(self.kafka(), act.who, region, first=act.which / 1_000, count=round(act.amount))

    # Files that go and come back

    def _delete_commit(self, act: ChaosAct) -> Steps:
        """Kill a job and let it forget that its last batch ended."""
        yield from self._at_work(act.who)
        flow = _flow_of(act)
        self._dies(self.process_of(act.who))
        commits = [path for path in (self.stack.checkpoint(flow) / "commits").iterdir() if path.name.isdigit()]
        newest = max(commits, key=lambda path: int(path.name), default=None)
        if newest is not None:
            newest.unlink()
            newest.with_name(f".{newest.name}.crc").unlink(missing_ok=True)

    def _put_checkpoint_back(self, act: ChaosAct) -> Steps:
        """Copy a query's checkpoint, and put the copy back a while later; nobody runs it meanwhile."""
        yield from self._at_work(act.who)
        checkpoint = self.stack.checkpoint(_flow_of(act))
        copy = checkpoint.with_name(f"{checkpoint.name}.copy")
        shutil.rmtree(copy, ignore_errors=True)
        # In this order: of every batch that ended in the copy, it has the offsets.
        for file in (*checkpoint.glob("commits/*"), *checkpoint.glob("offsets/*"), *checkpoint.glob("metadata*")):
            target = copy / file.relative_to(checkpoint)
            target.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # the query tidies up meanwhile
                shutil.copy(file, target)
        yield from _for(act.seconds)
        for name in self._names(act.who):
            self._dies(self.supervisor.processes[name])
        shutil.rmtree(checkpoint)
        copy.rename(checkpoint)

    def _delete_pointer(self, act: ChaosAct) -> Steps:
        """Delete what only shortens the way to a table's newest checkpoint."""
        table = "decisions" if act.who == DRIVER else "telemetry"
        (Path(self.stack.warehouse) / table / "_delta_log" / "_last_checkpoint").unlink(missing_ok=True)
        yield

    def _put_file_back(self, act: ChaosAct) -> Steps:
        """Copy an agent's file, and put the copy back a while later."""
        yield from self._at_work(act.who)
        folder = self.stack.agent_folder(act.who)
        aside = self.stack.folder.path / "set-aside" / f"{act.who}-{round(act.at_s * 1_000)}"
        copy = aside / "copy.sqlite"
        aside.mkdir(parents=True)
        with (
            closing(open_to_read(folder / FILE_NAME)) as source,
            closing(sqlite3.connect(copy)) as target,
            source.in_words(),
        ):
            source.backup(target)
        yield from _for(act.seconds)
        yield from self._at_work(act.who)
        self._dies(self.process_of(act.who))
        for file in folder.glob(f"{FILE_NAME}*"):
            file.rename(aside / file.name)
        copy.rename(folder / FILE_NAME)

    def _make_topic_anew(self, act: ChaosAct) -> Steps:
        yield from self._at_work(BROKER)
        region = random.Random(act.which).choice(self.stack.regions)
        self.before_topic_goes()
        yield from made_anew(self.kafka(), act.who, region)

    # Doubles

    def _second_driver(self, act: ChaosAct) -> Steps:
        yield from self._at_work(act.who)
        yield from self._beside(self.stack.second_driver(), act.seconds)

    def _second_agent(self, act: ChaosAct) -> Steps:
        yield from self._at_work(act.who)
        yield from self._beside(self.stack.second_agent(act.who), act.seconds)

    def _beside(self, spec: ProcessSpec, seconds: float) -> Steps:
        """Run one more process for a while, or until it ends by itself."""
        child = Child(self.supervised_like_others(spec), self.supervisor.log_folder / f"{spec.name}.log")
        try:
            yield from _until(lambda: child.exit_code() is not None, seconds)
        finally:
            child.kill()

    def supervised_like_others(self, spec: ProcessSpec) -> ProcessSpec:
        """Give a process the environment of the stack's others, by which what is left of it is found."""
        shared = self.supervisor.processes[JOBS].spec.env
        own = {**{name: shared[name] for name in shared.keys() - spec.env.keys()}, **spec.env}
        return ProcessSpec(name=spec.name, argv=spec.argv, env=own, announces_ready=spec.announces_ready)

    def _names(self, role: str) -> Sequence[str]:
        return DRIVERS if role == DRIVER else (role,)


def _flow_of(act: ChaosAct) -> str:
    return "place" if act.who == DRIVER else ("observe", "replicate")[act.which % 2]


def _for(seconds: float) -> Steps:
    return _until(lambda: False, seconds)


def _until(condition: Callable[[], bool], at_most_s: float) -> Steps:
    until = time.monotonic() + at_most_s
    while time.monotonic() < until and not condition():
        yield


def _signal(child: Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _family(pid: int) -> Sequence[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return ()
