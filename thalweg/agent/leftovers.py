"""What runs on this machine that nobody here has started: of an earlier life of the agent, and of other agents.

An agent that stands still leaves its processes on GPUs that the next agent of the region takes for free. So the next
one looks for them before it starts anything, wherever their folders lie: each has in its environment whose it is, and
which agent started it.
"""

import contextlib
import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import psutil

from thalweg.agent.run_watch import HOSTED_AS, HOSTED_BY, RunWatch
from thalweg.processes.identity import ProcessIdentity
from thalweg.scheduling.ids import RegionId

log = logging.getLogger("thalweg.agent")


def hosted_as(installation: str, region: RegionId) -> str:
    """Say of which region of which installation a process is: two on one machine may call a region alike."""
    return f"{installation}/{region}"


def whose(installation: str, region: RegionId) -> dict[str, str]:
    """Make the variables by which a process of this agent is found and known."""
    agent = ProcessIdentity.own()
    return {HOSTED_AS: hosted_as(installation, region), HOSTED_BY: f"{agent.pid} {agent.started}"}


@dataclass(slots=True)
class Leftovers:
    """Finds and ends them.

    A folder is held by one agent at a time, so what runs in one's own has none any more and is killed. What another
    agent started may save what it has: it is asked to end first. Where that agent lives and is not stopped, it ends
    them itself when it hears who hosts the region now, and nothing is done to them: if it does not, it may be of a copy
    of this installation, whose regions are called alike.
    """

    top: str
    """The folder in which this agent's runs have theirs, with a separator at its end."""
    marks: Collection[str]
    """Of the regions that this agent hosts (`hosted_as`)."""
    grace_ms: int
    """From being asked to end until being killed."""
    _watch: RunWatch = field(init=False)
    _asked_ms: dict[psutil.Process, int] = field(default_factory=dict)
    _told: frozenset[int] = frozenset()
    """Agents of which it was said that they are waited for."""

    def __post_init__(self) -> None:
        self._watch = RunWatch(self.top, frozenset(self.marks))

    def end(self, now_ms: int) -> int:
        """Ask them to end, kill those that were asked too long ago, and return how many there were, spared ones too."""
        found = self._watch.look({})
        spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}  # an agent may be a task itself
        left = [(folder, process) for folder, each in found.items() for process in each if process.pid not in spared]
        agents = set()
        for folder, process in left:
            with contextlib.suppress(psutil.Error):
                if folder.startswith(self.top):
                    process.kill()
                elif (agent := _live_agent(process.environ())) is not None:
                    agents.add(agent)
                elif process not in self._asked_ms:
                    self._asked_ms[process] = now_ms
                    process.terminate()
                elif now_ms - self._asked_ms[process] >= self.grace_ms:
                    process.kill()
        self._tell(frozenset(agents))
        return len(left)

    def _tell(self, agents: frozenset[int]) -> None:
        if agents - self._told:
            log.error(
                "processes %s are agents of the same regions on this machine, and run tasks there: nothing is started "
                "here until those have ended. Stop those agents (kill PID), or this one",
                sorted(agents),
            )
        self._told = agents


def _live_agent(environ: Mapping[str, str]) -> int | None:
    """Return the process id of the agent that a process is of, where that lives and goes on."""
    pid, _, started = environ.get(HOSTED_BY, "").partition(" ")
    if not pid.isdigit() or not ProcessIdentity(pid=int(pid), started=started).is_alive():
        return None
    try:
        return int(pid) if psutil.Process(int(pid)).status() != psutil.STATUS_STOPPED else None
    except psutil.Error:
        return None
