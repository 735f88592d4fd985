"""What runs tasks: `simulate` lets scaled time pass, `process` really starts the command.

A runner knows nothing of Kafka or SQLite. The agent starts each (region, task, epoch) at most once, stops what is
revoked, and asks from time to time what has ended. Time is an argument.
"""

import contextlib
import heapq
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import psutil

from thalweg.processes.children import LEASH, kill_group
from thalweg.scheduling.ids import RegionId, TaskId
from thalweg.streams.contract.envelope import content_id
from thalweg.streams.contract.messages import AssignmentEvent

RunKey = tuple[RegionId, TaskId, int]
"""Region, task and epoch."""

MIN_RUN_MS: Final = 20
MAX_LOG_BYTES: Final = 256 * 1_048_576
_TASK_FOLDER: Final = "THALWEG_TASK_FOLDER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended."""

    key: RunKey
    succeeded: bool
    exit_code: int | None = None
    detail: str = ""


class Runner(Protocol):
    """Starts, stops and watches runs."""

    name: str
    survives_restart: bool
    """Whether what runs goes on when the agent is started again."""

    def start(self, event: AssignmentEvent, now_ms: int) -> int | None:
        """Start a run and return its process id, where it has one.

        Raises:
            RunnerError: it cannot be started; the message is for the report.
        """

    def resume(self, event: AssignmentEvent, started_ms: int) -> None:
        """Go on with a run that was started in an earlier life of the agent; only where `survives_restart`."""

    def stop(self, key: RunKey, now_ms: int) -> bool:
        """Stop a run; True when it is over at once, False when `ended` will tell."""

    def ended(self, now_ms: int) -> list[Ended]:
        """Return runs that ended since the last call, stopped ones included where `stop` said False."""

    def progress(self, key: RunKey, now_ms: int) -> float | None:
        """Share of the expected time that has passed, below 1; None where unknown."""

    def clear_leftovers(self) -> int:
        """End what an earlier life of the agent left running and cannot be gone on with; return how many there were."""

    def close(self) -> list[Ended]:
        """Stop everything, and return the runs that had ended by themselves before they were told to."""


class RunnerError(Exception):
    """A run could not be started."""


class SimulateRunner:
    """Lets `expected_s / time_scale` pass, more or less a fifth, and then succeeds, or fails as often as asked.

    Both are drawn from the run's id and the seed: the same run takes the same time and ends the same way after a
    restart, and in a replay.
    """

    name = "simulate"
    survives_restart = True

    def __init__(self, *, time_scale: float = 1.0, failure_share: float = 0.0, seed: int = 0) -> None:
        self._time_scale = time_scale
        self._failure_share = failure_share
        self._seed = seed
        self._running: dict[RunKey, tuple[int, int]] = {}
        self._ends: list[tuple[int, RunKey]] = []

    def start(self, event: AssignmentEvent, now_ms: int) -> int | None:
        """Start the clock."""
        self.resume(event, now_ms)
        return None

    def resume(self, event: AssignmentEvent, started_ms: int) -> None:
        """Set the clock as if it had run all along."""
        key = (event.region, event.task_id, event.epoch)
        stretch = 0.8 + 0.4 * self._draw(key, "time")
        ends_ms = started_ms + max(MIN_RUN_MS, round(event.expected_s * 1000 * stretch / self._time_scale))
        self._running[key] = (started_ms, ends_ms)
        heapq.heappush(self._ends, (ends_ms, key))

    def stop(self, key: RunKey, now_ms: int) -> bool:
        """Stop the clock."""
        self._running.pop(key, None)
        return True

    def ended(self, now_ms: int) -> list[Ended]:
        """Return runs whose time has passed."""
        over: list[Ended] = []
        while self._ends and self._ends[0][0] <= now_ms:
            ends_ms, key = heapq.heappop(self._ends)
            if self._running.get(key, (0, -1))[1] != ends_ms:
                continue  # stopped meanwhile
            del self._running[key]
            failed = self._draw(key, "end") < self._failure_share
            over.append(
                Ended(
                    key=key,
                    succeeded=not failed,
                    exit_code=1 if failed else 0,
                    detail="simulated failure" if failed else "",
                )
            )
        return over

    def progress(self, key: RunKey, now_ms: int) -> float | None:
        """Share of the time that has passed."""
        if key not in self._running:
            return None
        started_ms, ends_ms = self._running[key]
        return min(0.999, max(0.0, (now_ms - started_ms) / (ends_ms - started_ms)))

    def clear_leftovers(self) -> int:
        """Nothing runs outside this object."""
        return 0

    def close(self) -> list[Ended]:
        """Nothing runs outside this object."""
        return []

    def _draw(self, key: RunKey, about: str) -> float:
        return int(content_id(self._seed, about, *key)[:13], 16) / 16**13


@dataclass(slots=True, kw_only=True)
class _Process:
    popen: subprocess.Popen[bytes]
    started_ms: int
    expected_ms: float
    log: Path
    kill_at_ms: int | None = None
    why: str = ""
    """Why it was told to end; empty while it may run."""


@dataclass(slots=True, kw_only=True)
class ProcessRunner:
    """Starts the task's command in a process group of its own, tied to the agent's life.

    The command gets a small environment, not the agent's own, which may hold secrets: PATH, HOME and LANG, the task's
    id, epoch and region, and CUDA_VISIBLE_DEVICES as assigned. Its folder under `folder` holds `output.log`.
    """

    folder: Path
    timeout_s: float
    kill_grace_s: float
    name: str = "process"
    survives_restart: bool = False
    _running: dict[RunKey, _Process] = field(default_factory=dict)

    def start(self, event: AssignmentEvent, now_ms: int) -> int | None:
        """Start the command."""
        if not event.command:
            raise RunnerError("the task has no command; the process runner needs one")
        if shutil.which(event.command[0]) is None:
            raise RunnerError(f"command {event.command[0]!r} was not found in this region")
        key = (event.region, event.task_id, event.epoch)
        folder = self.task_folder(key)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            log = folder / "output.log"
            with log.open("ab") as output:
                popen = subprocess.Popen(
                    # -I -S: neither the task's folder nor site packages can change what ties it to the agent.
                    [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *event.command],
                    cwd=folder,
                    env=self._environment(event, folder),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:  # ValueError: a NUL in an argument or in the task's id
            raise RunnerError(f"the command could not be started: {error}") from error
        self._running[key] = _Process(
            popen=popen, started_ms=now_ms, expected_ms=max(1.0, event.expected_s * 1000), log=log
        )
        return popen.pid

    def task_folder(self, key: RunKey) -> Path:
        """Folder of one run. Ids may hold any character and differ in case only, so a hash stands beside the words."""
        region, task_id, epoch = key
        words = "".join(character if character.isalnum() else "-" for character in task_id)[:48]
        return self.folder / "tasks" / f"{words}-{content_id(region, task_id)[:8]}-{epoch}"

    def _environment(self, event: AssignmentEvent, folder: Path) -> Mapping[str, str]:
        passed = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
        devices = sorted({device for share in event.nodes for device in share.devices})
        return passed | {
            "THALWEG_TASK_ID": event.task_id,
            "THALWEG_EPOCH": str(event.epoch),
            "THALWEG_REGION": event.region,
            "CUDA_VISIBLE_DEVICES": ",".join(map(str, devices)),
            _TASK_FOLDER: str(folder),
        }

    def resume(self, event: AssignmentEvent, started_ms: int) -> None:
        """Processes end with their agent; there is nothing to go on with."""
        raise NotImplementedError("processes do not survive their agent")

    def stop(self, key: RunKey, now_ms: int) -> bool:
        """Ask the group to end, and kill it after the grace."""
        process = self._running.get(key)
        if process is None:
            return True
        self._ask(process, now_ms, "stopped")
        return False

    def _ask(self, process: _Process, now_ms: int, why: str) -> None:
        if process.why:
            return
        process.why = why
        process.kill_at_ms = now_ms + round(self.kill_grace_s * 1000)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.popen.pid, signal.SIGTERM)

    def ended(self, now_ms: int) -> list[Ended]:
        """Look at every process: has it ended, does it run too long, does it write too much?"""
        over: list[Ended] = []
        for key, process in list(self._running.items()):
            code = process.popen.poll()
            if code is None:
                if now_ms - process.started_ms > self.timeout_s * 1000:
                    self._ask(process, now_ms, f"ran longer than {self.timeout_s:g} s")
                elif process.log.stat().st_size > MAX_LOG_BYTES:
                    self._ask(process, now_ms, f"wrote more than {MAX_LOG_BYTES:,} bytes")
                if process.kill_at_ms is not None and now_ms >= process.kill_at_ms:
                    kill_group(process.popen.pid)
                continue
            kill_group(process.popen.pid)  # whatever it left behind
            del self._running[key]
            over.append(
                Ended(key=key, succeeded=code == 0 and not process.why, exit_code=code, detail=_how(code, process.why))
            )
        return over

    def progress(self, key: RunKey, now_ms: int) -> float | None:
        """Share of the expected time that has passed: a guess, and all that can be known from outside."""
        process = self._running.get(key)
        return None if process is None else min(0.999, max(0.0, (now_ms - process.started_ms) / process.expected_ms))

    def clear_leftovers(self) -> int:
        """Kill what commands of an earlier life started: the kernel ended only the commands with their agent."""
        own = str(self.folder / "tasks")
        left = [process for process in psutil.process_iter() if _task_folder_of(process).startswith(own)]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=5)
        return len(left)

    def close(self) -> list[Ended]:
        """Ask every group to end, and kill what is left after the grace."""
        over: list[Ended] = []
        for key, process in self._running.items():
            code = process.popen.poll()
            if code is None:
                self._ask(process, 0, "its agent stops")
            else:
                succeeded = code == 0 and not process.why
                over.append(Ended(key=key, succeeded=succeeded, exit_code=code, detail=_how(code, process.why)))
        deadline = time.monotonic() + self.kill_grace_s
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(max(0.0, deadline - time.monotonic()))
            kill_group(process.popen.pid)
            process.popen.wait()
        self._running.clear()
        return over


def _task_folder_of(process: psutil.Process) -> str:
    try:
        return process.environ().get(_TASK_FOLDER, "")
    except (psutil.Error, OSError):
        return ""


def _how(code: int, why: str) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return ", ".join(filter(None, (why, f"ended by {signal.Signals(-code).name}")))
    return why or (f"exit code {code}" if code else "")
