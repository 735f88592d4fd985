"""Which process a process id meant when it was written down: the kernel gives the same number out again."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """A process, told apart from every other that has or had its number."""

    pid: int
    started: str  # opaque; equal means the same start

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """Return the identity of the process that has this id now, or None if there is none (or only its zombie)."""
        started = _start_of(pid)
        return None if started is None else cls(pid=pid, started=started)

    @classmethod
    def own(cls) -> Self:
        """Return the identity of the running process."""
        own = cls.of(os.getpid())
        assert own is not None
        return own

    def is_alive(self) -> bool:
        """Tell whether this very process still runs."""
        return _start_of(self.pid) == self.started


def _start_of(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        try:
            # Clock ticks since boot, beside the boot's id: unlike a wall-clock time, setting the clock moves neither.
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            return f"{boot}:{fields[19]}"  # proc(5): starttime is field 22, the name before it may hold blanks
        except FileNotFoundError:
            return f"{process.create_time():.2f}"
    except psutil.Error:
        return None
