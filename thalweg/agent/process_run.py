"""One run of the process runner: its workers, what is known of them, and how it ends.

All workers are one run: the first that fails, or whatever else ends it, ends the others too.
"""

import contextlib
import os
import signal
import subprocess
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from thalweg.agent.bounded_log import keep_short
from thalweg.agent.cores import CoreShares
from thalweg.agent.run_folder import RunFolder
from thalweg.agent.runners import Cause, Ended, RunKey, RunOutputs
from thalweg.agent.workers import RankedWorker
from thalweg.processes.children import kill_group

STOPPED: Final = "stopped"


@dataclass(slots=True, kw_only=True)
class WorkerProcess:
    """A worker that was started."""

    worker: RankedWorker
    popen: subprocess.Popen[bytes]
    log: int
    """Descriptor of its log, also when the task has removed the file."""
    cores: tuple[int, ...] = ()
    log_kept_bytes: int = -1
    """Length of its log when it was last copied to the store."""
    code: int | None = None

    def look(self) -> bool:
        """Tell whether it still runs; what it leaves in its group when it ends is killed."""
        if self.code is None:
            self.code = self.popen.poll()
            if self.code is not None:
                kill_group(self.popen.pid)
        return self.code is None

    def signal(self, number: int) -> None:
        """Send a signal to its group, if it runs."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, number)


@dataclass(slots=True, kw_only=True)
class ProcessRun:
    """A run and its workers."""

    key: RunKey
    folder: RunFolder
    started_ms: int
    expected_ms: float
    limit_s: float
    memory_limit_bytes: float
    """What all workers may take together; 0 where nothing was asked for."""
    kill_grace_ms: int
    workers: list[WorkerProcess] = field(default_factory=list)
    memory_bytes: int = 0
    """What they take, when last looked at."""
    keeping: "Future[RunOutputs] | None" = None
    """Of a run that is over: the copying of what it left."""
    _why: str = ""
    _cause: Cause | None = None
    _kill_at_ms: int | None = None
    _first_failure: WorkerProcess | None = None

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.folder.path.name

    @property
    def was_stopped(self) -> bool:
        """Whether it was told to end, by whoever may say so."""
        return self._why == STOPPED

    def ask(self, now_ms: int, why: str, cause: Cause | None = None, *, number: int = signal.SIGTERM) -> None:
        """Ask it to end by a signal, and kill it after the grace."""
        if not self._why:
            self._why, self._cause = why, cause
            self._end_all(now_ms, number)

    def is_over(self, now_ms: int) -> bool:
        """Look at every worker: has it ended, does the run take too long, or too much?"""
        running = [worker for worker in self.workers if worker.look()]
        failed = [worker for worker in self.workers if worker.code]
        if failed and self._first_failure is None:
            self._first_failure = failed[0]
            self._end_all(now_ms, signal.SIGTERM)
        if running and self._kill_at_ms is None:
            self._hold_to_limits(now_ms)
        if self._kill_at_ms is not None and now_ms >= self._kill_at_ms:
            for worker in running:
                worker.signal(signal.SIGKILL)
        return not running

    def _hold_to_limits(self, now_ms: int) -> None:
        if now_ms - self.started_ms > self.limit_s * 1_000:
            self.ask(now_ms, f"ran longer than {self.limit_s:g} s", "time_limit")
        elif 0 < self.memory_limit_bytes < self.memory_bytes:
            taken, allowed = self.memory_bytes / 1e9, self.memory_limit_bytes / 1e9
            why = f"took {taken:.3g} GB of memory, allowed are {allowed:.3g} GB"
            # At once, as the kernel would: in the grace it could take all there is.
            self.ask(now_ms, why, "memory", number=signal.SIGKILL)

    def _end_all(self, now_ms: int, number: int) -> None:
        if self._kill_at_ms is None:
            self._kill_at_ms = now_ms + self.kill_grace_ms
            for worker in self.workers:
                worker.signal(number)

    def end(self, outputs: RunOutputs) -> Ended:
        """Say how it ended."""
        failed = self._first_failure
        code = failed.code if failed is not None else 0
        succeeded = failed is None and not self._why
        how = "" if succeeded else _how(code or 0, self._why)
        if failed is not None and len(self.workers) > 1 and not self._why:
            how = f"worker {failed.worker.rank}: {how}"
        return Ended(
            key=self.key,
            succeeded=succeeded,
            exit_code=code,
            detail="; ".join(filter(None, (how, outputs.trouble))),
            cause=None if succeeded or self.was_stopped else self._cause or ("signal" if (code or 0) < 0 else "exit"),
            outputs=outputs,
        )

    def cut_logs(self, limit_bytes: int) -> None:
        """Keep every log within its limit."""
        for worker in self.workers:
            keep_short(worker.log, limit_bytes)

    def tidy(self, cores: CoreShares) -> None:
        """Let go of what it held."""
        for worker in self.workers:
            kill_group(worker.popen.pid)
            os.close(worker.log)
            cores.give_back(worker.cores, worker.worker.cpus)


def _how(code: int, why: str) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return ", ".join(filter(None, (why, f"ended by {signal.Signals(-code).name}")))
    return why or (f"exit code {code}" if code else "")
