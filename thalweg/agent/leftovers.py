"""What runs on this machine that nobody here has started: of an earlier life of the agent, and of other agents.

An agent that stands still leaves its processes on GPUs that the next agent of the region takes for free. So the next
one looks for them before it starts anything, wherever their folders lie: each has in its environment whose it is.
"""

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass, field

import psutil

from thalweg.agent.run_watch import RunWatch
from thalweg.scheduling.ids import RegionId


def hosted_as(installation: str, region: RegionId) -> str:
    """Say of which region of which installation a process is: two on one machine may call a region alike."""
    return f"{installation}/{region}"


@dataclass(slots=True)
class Leftovers:
    """Finds and ends them.

    A folder is held by one agent at a time, so what runs in one's own has none any more and is killed. What another
    agent started may save what it has: it is asked to end first.
    """

    top: str
    """The folder in which this agent's runs have theirs, with a separator at its end."""
    marks: Collection[str]
    """Of the regions that this agent hosts (`hosted_as`)."""
    grace_ms: int
    """From being asked to end until being killed."""
    _watch: RunWatch = field(init=False)
    _asked_ms: dict[psutil.Process, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._watch = RunWatch(self.top, frozenset(self.marks))

    def end(self, now_ms: int) -> int:
        """Ask them to end, kill those that were asked too long ago, and return how many there were."""
        found = self._watch.look({})
        spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}  # an agent may be a task itself
        left = [(folder, process) for folder, each in found.items() for process in each if process.pid not in spared]
        for folder, process in left:
            with contextlib.suppress(psutil.Error):
                if folder.startswith(self.top) or now_ms >= self._asked_ms.get(process, now_ms + 1) + self.grace_ms:
                    process.kill()
                elif process not in self._asked_ms:
                    self._asked_ms[process] = now_ms
                    process.terminate()
        return len(left)
