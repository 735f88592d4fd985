"""The processes of runs, found wherever they have hidden: what memory they take together, and who is left of the ended.

A process belongs to a run by its session, which each worker begins, or else by the variables in its environment that
name the run's folder and whose it is: a daemon has left the session, and still has the variables.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import psutil

TASK_FOLDER: Final = "THALWEG_TASK_FOLDER"
HOSTED_AS: Final = "THALWEG_HOSTED_AS"
HOSTED_BY: Final = "THALWEG_HOSTED_BY"


@dataclass(slots=True)
class RunWatch:
    """Looks at all processes of this machine, again and again."""

    top: str
    """The folder in which the folders of runs lie, with a separator at its end."""
    marks: frozenset[str] = frozenset()
    """Values of `HOSTED_AS` of which all processes are looked for, whatever their folders."""
    _strangers: set[psutil.Process] = field(default_factory=set)
    """Processes that were seen to belong to nobody: an environment does not change."""

    def look(self, sessions: Mapping[int, str]) -> dict[str, list[psutil.Process]]:
        """Find the processes of runs, by their folders.

        Args:
            sessions: folders of the live runs by the session of each of their workers.
        """
        found: dict[str, list[psutil.Process]] = {}
        strangers: set[psutil.Process] = set()
        for process in psutil.process_iter():
            folder = sessions.get(_session(process.pid)) or self._folder(process)
            if folder:
                found.setdefault(folder, []).append(process)
            else:
                strangers.add(process)
        self._strangers = strangers
        return found

    def _folder(self, process: psutil.Process) -> str:
        if process in self._strangers:
            return ""
        try:
            said = process.environ()
        except (psutil.Error, OSError):
            return ""
        folder = said.get(TASK_FOLDER, "")
        return folder if folder.startswith(self.top) or said.get(HOSTED_AS) in self.marks else ""


def memory_bytes(processes: list[psutil.Process], limit_bytes: float) -> int:
    """Sum what processes take of the memory.

    Resident sizes count what several share once for each, so above the limit each shared page is shared out; that takes
    the kernel some milliseconds a process, and is not asked below it.
    """
    resident = sum(_sizes(processes, "rss"))
    return resident if resident <= limit_bytes else min(resident, sum(_sizes(processes, "pss")))


def _sizes(processes: list[psutil.Process], kind: str) -> Iterator[int]:
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            info = process.memory_info() if kind == "rss" else process.memory_full_info()
            yield int(getattr(info, kind, info.rss))


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0
