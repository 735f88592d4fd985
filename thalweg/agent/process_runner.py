"""The runner `process`: really starts each task's command, a process for each worker, on this machine."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from thalweg.agent.artefacts import Artefacts, OwnDisk
from thalweg.agent.cores import CoreShares
from thalweg.agent.kept_files import keep_all, keep_logs, not_kept
from thalweg.agent.leftovers import Leftovers, hosted_as, whose
from thalweg.agent.process_run import STOPPED, ProcessRun, WorkerProcess
from thalweg.agent.retention import RunRetention
from thalweg.agent.run_folder import RunFolder, log_name, variables
from thalweg.agent.run_watch import TASK_FOLDER
from thalweg.agent.runners import CommandNotFoundError, Ended, RunKey, RunnerError, RunOutputs, RunProgress, key_of
from thalweg.agent.secret_store import SecretStore
from thalweg.agent.upkeep import RunUpkeep
from thalweg.agent.workers import MODELS, TABLES, RankedWorker, environment, workers_of
from thalweg.processes.children import LEASH, kill_group
from thalweg.processes.ports import NoFreePortError, free_port
from thalweg.scheduling.ids import RegionId
from thalweg.streams.contract.envelope import content_id
from thalweg.streams.contract.messages import AssignmentEvent

KEEPERS: Final = 4
"""Threads that copy to the store: a slow one does not hold up the runs of others."""
RUNS: Final = "tasks"
"""Of the folders in an agent's, the one in which its runs have theirs."""
_MEMORY_GB: Final = 1_000_000_000


@dataclass(slots=True, kw_only=True)
class ProcessRunner:
    """Starts the task's command in process groups of their own, tied to the agent's life.

    The command gets a small environment, not the agent's own, which may hold secrets (`workers.environment`). All
    workers of a run share its folder under `folder`, which holds their logs and what they give (`run_folder`).
    """

    folder: Path
    timeout_s: float
    kill_grace_s: float
    log_bytes: int = 16_000_000
    secrets: SecretStore = field(default_factory=SecretStore)
    artefacts: Artefacts | None = None
    """Where logs and artefacts are kept; None leaves them in `folder`."""
    retention: RunRetention = field(default_factory=RunRetention)
    warehouse: str = ""
    """Where the tables are, for tasks that read them; empty leaves what the agent's own environment says."""
    rounds: Mapping[str, str] = field(default_factory=dict)
    """Where rounds of learning go on (`workers.ROUNDS`), for tasks that take part in them."""
    name: str = "process"
    survives_restart: bool = False
    needs_command: bool = True
    starts_at_once: int = 16
    _running: dict[RunKey, ProcessRun] = field(default_factory=dict)
    _cores: CoreShares = field(default_factory=lambda: CoreShares(_own_cores()))
    _keepers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(KEEPERS, "thalweg-keeper"))
    _installation: str = ""
    _leftovers: Leftovers | None = None
    _is_alone: bool = False
    """Whether nothing is left over any more."""
    _upkeep: RunUpkeep = field(init=False)
    _store: Artefacts = field(init=False)

    def __post_init__(self) -> None:
        self._store = self.artefacts or OwnDisk(self._runs)
        self._upkeep = RunUpkeep(
            runs=self._running,
            log_bytes=self.log_bytes,
            store=self._store,
            retention=self.retention,
            top=self._runs,
        )

    @property
    def _runs(self) -> Path:
        return self.folder / RUNS

    def start(self, event: AssignmentEvent, now_ms: int) -> int | None:
        """Start the command."""
        if not event.command:
            raise RunnerError("the task has no command; the process runner needs one")
        workers = workers_of(event)
        secrets = self.secrets.values(event.secrets)
        own = {
            **os.environ,
            **self.rounds,
            **({TABLES: self.warehouse} if self.warehouse else {}),
            MODELS: str(self.folder / "models"),
        }
        run = self._new_run(event, workers, now_ms)
        self._running[run.key] = run  # before anything runs: what nobody knows of is taken for left over, and killed
        self._upkeep.begin()
        try:
            port = free_port() if len(workers) > 1 else 0
            own_names = {TASK_FOLDER: str(run.folder.path), **whose(self._installation, event.region)}
            files = variables(run.folder.path) | own_names
            for worker in workers:
                values = environment(event, worker, workers, own=own, secrets=secrets, files=files, master_port=port)
                if shutil.which(event.command[0], path=values.get("PATH")) is None:
                    is_looked_for = os.sep not in event.command[0]
                    raise CommandNotFoundError(event.command[0], event.env.get("PATH") if is_looked_for else None)
                run.workers.append(self._start_worker(event.command, run, worker, values))
        except (OSError, ValueError, NoFreePortError, RunnerError) as error:  # ValueError: a NUL in a variable
            self._give_up(run)
            if isinstance(error, RunnerError):
                raise
            raise RunnerError(f"the command could not be started: {error}") from error
        return run.workers[0].popen.pid

    def _new_run(self, event: AssignmentEvent, workers: list[RankedWorker], now_ms: int) -> ProcessRun:
        key = key_of(event)
        path = self.task_folder(key)
        try:
            (path / "artefacts").mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise RunnerError(f"the command could not be started: {error}") from error
        return ProcessRun(
            key=key,
            folder=RunFolder(path),
            started_ms=now_ms,
            expected_ms=max(1.0, event.expected_s * 1000),
            limit_s=min(self.timeout_s, self.timeout_s if event.time_limit_s is None else event.time_limit_s),
            memory_limit_bytes=sum(worker.memory_gb for worker in workers) * _MEMORY_GB,
            kill_grace_ms=round(self.kill_grace_s * 1000),
        )

    def _start_worker(
        self, command: list[str], run: ProcessRun, worker: RankedWorker, values: dict[str, str]
    ) -> WorkerProcess:
        output = os.open(
            run.folder.path / log_name(worker.rank),
            os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o640,
        )
        try:
            popen = subprocess.Popen(
                # -I -S: neither the task's folder nor site packages can change what ties it to the agent.
                [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *command],
                cwd=run.folder.path,
                env=values,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except BaseException:
            os.close(output)
            raise
        cores = self._cores.take(worker.cpus)
        if cores:
            with contextlib.suppress(OSError):  # it has ended already
                os.sched_setaffinity(popen.pid, cores)
        return WorkerProcess(worker=worker, popen=popen, log=output, cores=cores)

    def _give_up(self, run: ProcessRun) -> None:
        """End the workers that had been started before one could not be."""
        self._let_go(run)
        for worker in run.workers:
            worker.popen.wait()

    def _let_go(self, run: ProcessRun) -> None:
        with self._upkeep.lock:
            run.tidy(self._cores)
            self._running.pop(run.key, None)

    def task_folder(self, key: RunKey) -> Path:
        """Folder of one run. Ids may hold any character and differ in case only, so a hash stands beside the words."""
        region, task_id, epoch = key
        words = "".join(character if character.isalnum() else "-" for character in task_id)[:48]
        return self._runs / f"{words}-{content_id(region, task_id)[:8]}-{epoch}"

    def resume(self, event: AssignmentEvent, started_ms: int) -> None:
        """Processes end with their agent; there is nothing to go on with."""
        raise NotImplementedError("processes do not survive their agent")

    def stop(self, key: RunKey, now_ms: int) -> bool:
        """Ask the group to end, and kill it after the grace."""
        run = self._running.get(key)
        if run is None:
            return True
        run.ask(now_ms, STOPPED)
        return False

    def ended(self, now_ms: int) -> list[Ended]:
        """Look at every run; one that has ended is told when what it left is kept."""
        over: list[Ended] = []
        for run in list(self._running.values()):
            if run.keeping is not None or run.is_over(now_ms):
                outputs = self._kept(run)
                if outputs is not None:
                    self._let_go(run)
                    over.append(run.end(outputs))
        return over

    def _kept(self, run: ProcessRun) -> RunOutputs | None:
        """Tell what a run that is over has given; None while that is being copied."""
        if run.keeping is None:
            with self._upkeep.lock, contextlib.suppress(OSError):  # a full disk: it is no longer than it was
                run.cut_logs(self.log_bytes)
        if run.keeping is None and self._store.copies:
            run.keeping = self._keepers.submit(keep_all, run.folder, self._store, OwnDisk(self._runs))
        if run.keeping is None:
            return self._outputs(run.folder, final=True)
        if run.was_stopped:  # somebody waits for its GPUs, and nobody for what it left
            return RunOutputs(log=self._store.uri(run.name, log_name(0)))
        return run.keeping.result() if run.keeping.done() else None

    def _outputs(self, folder: RunFolder, *, final: bool) -> RunOutputs:
        return folder.outputs(lambda name: self._store.uri(folder.path.name, name), final=final)

    def progress(self, key: RunKey, now_ms: int) -> RunProgress | None:
        """Share of the expected time that has passed: a guess, and all that can be known from outside."""
        run = self._running.get(key)
        if run is None:
            folder = RunFolder(self.task_folder(key))
            return RunProgress(outputs=self._outputs(folder, final=True)) if folder.path.is_dir() else None
        share = min(0.999, max(0.0, (now_ms - run.started_ms) / run.expected_ms))
        return RunProgress(share=share, outputs=self._outputs(run.folder, final=False))

    def take_over(self, installation: str, regions: Collection[RegionId], now_ms: int) -> int:
        """End what commands of an earlier life, or of another agent, started; keep what an earlier life could not."""
        if self._leftovers is None:
            self._installation = installation
            marks = [hosted_as(installation, region) for region in regions]
            self._leftovers = Leftovers(f"{self._runs}{os.sep}", marks, round(self.kill_grace_s * 1000))
        left = self._leftovers.end(now_ms)
        if not left and not self._is_alone:
            self._is_alone = True
            for folder in not_kept(self._runs) if self._store.copies else ():
                self._keepers.submit(keep_logs, folder, self._store)
        return left

    def close(self, *, give_up_all: bool = False) -> list[Ended]:
        """Ask every group to end, and kill what is left after the grace."""
        over: list[ProcessRun] = []
        for run in self._running.values():
            if run.keeping is not None or run.is_over(run.started_ms):
                over.append(run)
            else:
                run.ask(run.started_ms, "its agent stops", "agent")
        deadline = time.monotonic() + self.kill_grace_s
        for worker in (worker for run in self._running.values() for worker in run.workers):
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.popen.wait(max(0.0, deadline - time.monotonic()))
            kill_group(worker.popen.pid)
            worker.popen.wait()
        self._upkeep.end()
        return self._close_all(over)

    def _close_all(self, over: Collection[ProcessRun]) -> list[Ended]:
        """Keep what all runs left, and tell how those had ended that were not told to."""
        for run in self._running.values():
            self._kept(run)
        self._keepers.shutdown()
        told = [run.end(outputs) for run in over for outputs in (self._kept(run),) if outputs is not None]
        for run in list(self._running.values()):
            self._let_go(run)
        self._upkeep.look_at_processes()
        return told


def _own_cores() -> set[int]:
    """Name the cores this process may use, where the system can give some of them to a task."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
