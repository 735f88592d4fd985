"""What the process runner does beside the agent's rounds: logs, memory, leftovers, copies; in another thread, disk.

Removing the folders of thousands of runs takes seconds, in which no task may take the memory of all others.
"""

import io
import itertools
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from thalweg.agent.artefacts import ArtefactError, Artefacts
from thalweg.agent.process_run import ProcessRun
from thalweg.agent.retention import RunFolders, RunRetention
from thalweg.agent.run_folder import log_name
from thalweg.agent.run_watch import RunWatch, memory_bytes
from thalweg.agent.runners import RunKey

log = logging.getLogger("thalweg.agent")

TURN_S: Final = 0.2
"""A log grows beyond its limit by what a task writes in this time."""
LOOK_EVERY: Final = 3
"""Turns between two looks at all processes: some 20 ms of work for a few hundred."""
COPY_EVERY: Final = 15
SWEEP_EVERY_S: Final = 60.0


@dataclass(slots=True, kw_only=True)
class RunUpkeep:
    """The threads, which begin with the first run."""

    runs: Mapping[RunKey, ProcessRun]
    """The live ones; the runner's own, which changes."""
    top: Path
    """In which their folders lie."""
    log_bytes: int
    store: Artefacts
    retention: RunRetention
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while a log's descriptor is used, and by the runner while it closes one."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _watch: RunWatch = field(init=False)
    _folders: RunFolders = field(init=False)
    _left_to_look_at: bool = False

    def __post_init__(self) -> None:
        self._watch = RunWatch(f"{self.top}{os.sep}")
        self._folders = RunFolders(self.top)

    def begin(self) -> None:
        """Start the threads, if they do not run: a run is about to start."""
        self._left_to_look_at = True
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._turns, name="thalweg-upkeep", daemon=True),
                threading.Thread(target=self._sweeps, name="thalweg-sweep", daemon=True),
            ]
            for thread in self._threads:
                thread.start()

    def end(self) -> None:
        """Stop the threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _turns(self) -> None:
        steps: list[tuple[int, Callable[[], None]]] = [
            (1, self.cut_logs),
            (LOOK_EVERY, self.look_at_processes),
            (COPY_EVERY, self.copy_logs),
        ]
        for turn in itertools.count():
            for every, step in steps:
                if turn % every == 0:
                    self._take(step)
            if self._stop.wait(TURN_S):
                return

    def _sweeps(self) -> None:
        while True:
            self._take(self.sweep)
            if self._stop.wait(SWEEP_EVERY_S):
                return

    def _take(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # the next turn may succeed: a disk is freed, a store answers again
            log.warning("upkeep of runs failed", extra={"fields": {"step": step.__name__, "error": str(error)}})

    def cut_logs(self) -> None:
        """Keep every log within its limit."""
        with self.lock:
            for run in list(self.runs.values()):
                run.cut_logs(self.log_bytes)

    def look_at_processes(self) -> None:
        """See what memory each run takes, and kill what ended ones have left."""
        live = self._live()
        if not live and not self._left_to_look_at:
            return
        self._left_to_look_at = bool(live)
        sessions = {worker.popen.pid: folder for folder, run in live.items() for worker in run.workers}
        found = self._watch.look(sessions)
        now_live = self._live()
        for folder, processes in found.items():
            run = now_live.get(folder)
            if run is not None:
                run.memory_bytes = memory_bytes(processes, run.memory_limit_bytes)
            elif folder not in live:
                self._kill(folder, processes)

    def _live_names(self) -> set[str]:
        return {run.name for run in list(self.runs.values())}

    def _live(self) -> dict[str, ProcessRun]:
        return {str(run.folder.path): run for run in list(self.runs.values())}

    def _kill(self, folder: str, processes: list[psutil.Process]) -> None:
        log.info("killed what a run had left", extra={"fields": {"run": folder, "processes": len(processes)}})
        for process in processes:
            try:
                process.kill()
            except psutil.Error:
                continue  # it has ended meanwhile

    def copy_logs(self) -> None:
        """Copy logs that have grown to the store, where there is one."""
        if not self.store.copies:
            return
        for run in list(self.runs.values()):
            for worker in run.workers:
                with self.lock:
                    if run.key not in self.runs:
                        break
                    size = os.fstat(worker.log).st_size
                    content = os.pread(worker.log, size, 0) if size != worker.log_kept_bytes else None
                if content is not None:
                    self._put(content, run, worker.worker.rank)
                    worker.log_kept_bytes = size

    def _put(self, content: bytes, run: ProcessRun, rank: int) -> None:
        try:
            self.store.put(io.BytesIO(content), run.name, log_name(rank))
        except ArtefactError as error:
            log.warning("a log waits for the store", extra={"fields": {"run": run.name, "error": str(error)}})

    def sweep(self) -> None:
        """Remove what is kept no longer of ended runs."""
        forgotten = self._folders.sweep(self.retention, self._live_names, self._stop.is_set)
        if forgotten:
            log.info("folders of ended runs removed", extra={"fields": {"runs": len(forgotten)}})
