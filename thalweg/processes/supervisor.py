"""Keep a set of processes running: start in order of need, restart with growing pauses, end in reverse order.

One step at a time (`tick`), so that whoever supervises keeps the thread: the demo draws between two ticks, the command
line sleeps. Stay on that thread: on Linux the children end with the thread that started them.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from graphlib import TopologicalSorter
from pathlib import Path

from thalweg.processes.children import Child, ChildFailedError, NeverReadyError, ProcessSpec
from thalweg.processes.disk import full_words
from thalweg.processes.identity import ProcessIdentity


class ProcessState(StrEnum):
    """Where a supervised process is in its life."""

    WAITING = "waiting"  # for what it needs
    STARTING = "starting"  # runs, not ready yet
    READY = "ready"
    FAILING = "failing"  # was ready, runs, and says that it does not do its work
    PAUSING = "pausing"  # ended by itself; will be started again
    FAILED = "failed"  # ended by itself too often
    STOPPED = "stopped"


@dataclass(slots=True, kw_only=True)
class Supervised:
    """One process and what is known of it."""

    spec: ProcessSpec
    log: Path
    log_begins: int = 0  # what its last start said begins here
    state: ProcessState = ProcessState.WAITING
    child: Child | None = None
    identity: ProcessIdentity | None = None
    started_seconds: float = 0.0  # on the supervisor's clock, like the next two
    moved_seconds: float = 0.0  # when it was started, or its words of progress changed
    progress: str = ""
    pulse: int = 0
    pulse_seconds: float = 0.0  # when it was last seen to beat, on the same clock
    start_again_seconds: float = 0.0
    was_ready: bool = False
    restarts: int = 0  # since it was last healthy
    last_failure: str = ""

    @property
    def is_failing(self) -> bool:
        """Whether it runs and says that it does not do its work."""
        return self.state is ProcessState.FAILING


@dataclass(slots=True)
class Supervisor:
    """The processes of one stack."""

    specs: Sequence[ProcessSpec]
    log_folder: Path
    # Called after every change of any state, or of its words. False: it could not be written down, and is called again
    # at the next tick.
    on_change: Callable[[], bool] = lambda: True
    on_progress: Callable[[str, str], None] = lambda name, words: None  # called with a process's new words of progress
    on_disk: Callable[[str], None] = lambda words: None  # called when the disk becomes full, with "" when it has room
    clock_seconds: Callable[[], float] = time.monotonic
    disk_full: Callable[[Path], str] = full_words  # of the logs' folder: words, "" where there is room
    processes: dict[str, Supervised] = field(init=False)  # in order of need
    full: str = field(init=False, default="")  # the disk, in words, as it was at the last tick
    _full_seconds: float = field(init=False, default=-math.inf)  # when it was last seen to be full
    _is_written_down: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        by_name = {spec.name: spec for spec in self.specs}
        if len(by_name) != len(self.specs):
            raise ValueError(f"Two processes have the same name: {sorted(spec.name for spec in self.specs)}")
        for spec in self.specs:
            if unknown := set(spec.needs) - by_name.keys():
                raise ValueError(f"{spec.name} needs {sorted(unknown)}, which is none of {sorted(by_name)}")
        order = TopologicalSorter({spec.name: spec.needs for spec in self.specs}).static_order()
        self.processes = {name: Supervised(spec=by_name[name], log=self.log_folder / f"{name}.log") for name in order}

    def tick(self) -> None:
        """Look at every process once and do what is due; returns at once but for a ready check in flight."""
        self._look_at_disk()
        if not self._is_written_down:
            self._is_written_down = self.on_change()
        for process in self.processes.values():
            before = process.state, process.last_failure
            self._advance(process)
            if (process.state, process.last_failure) != before:
                self._is_written_down = self.on_change()

    def _look_at_disk(self) -> None:
        before, self.full = self.full, self.disk_full(self.log_folder)
        if self.full:
            self._full_seconds = self.clock_seconds()
        if bool(self.full) != bool(before):
            self.on_disk(self.full)

    def _advance(self, process: Supervised) -> None:
        now = self.clock_seconds()
        match process.state:
            case ProcessState.WAITING:
                if all(self.processes[name].state is ProcessState.READY for name in process.spec.needs):
                    self._start(process)
            case ProcessState.PAUSING:
                # On a full disk it would fail again, whatever it is: it waits for room.
                if now >= process.start_again_seconds and not self.full:
                    self._start(process)
            case ProcessState.STARTING | ProcessState.READY | ProcessState.FAILING:
                assert process.child is not None
                code = process.child.exit_code()
                if code is not None:
                    self._ended(process, f"ended with {_exit_words(code)}")
                elif process.state is ProcessState.STARTING:
                    self._see_whether_ready(process, now)
                elif trouble := process.child.trouble() or self._standstill(process, now):
                    process.state, process.last_failure = ProcessState.FAILING, trouble
                else:
                    process.state = ProcessState.READY

    def _start(self, process: Supervised) -> None:
        process.started_seconds = process.moved_seconds = self.clock_seconds()
        process.progress = ""
        try:
            if process.spec.again is not None and not process.was_ready:
                process.spec = process.spec.again()
            process.child = Child(process.spec, process.log)
        except OSError as error:
            self._ended(process, f"could not be started: {error}")
            return
        process.log_begins = process.child.log_begins
        process.identity = ProcessIdentity.of(process.child.pid)
        process.state = ProcessState.STARTING

    def _see_whether_ready(self, process: Supervised, now: float) -> None:
        assert process.child is not None
        try:
            ready = process.child.is_ready()
        except NeverReadyError as error:
            self._ended(process, f"cannot become ready: {error}")
            return
        if ready:
            process.state = ProcessState.READY
            process.was_ready = True
            return
        # Getting ready may take as long as there is history to read; standing still may not.
        if (progress := process.child.progress()) != process.progress:
            process.progress, process.moved_seconds = progress, now
            self.on_progress(process.spec.name, progress)
        if now - process.moved_seconds > process.spec.ready_timeout_seconds:
            since = f" after its last word of progress ({process.progress})" if process.progress else ""
            self._ended(process, f"was not ready within {process.spec.ready_timeout_seconds:.0f} s{since}")

    def _standstill(self, process: Supervised, now: float) -> str:
        """Return words for one that runs and gets nothing done, not even its pulse; "" where it beats."""
        assert process.child is not None
        pulse = process.child.pulse()
        if pulse != process.pulse or not pulse:
            process.pulse, process.pulse_seconds = pulse, now
        if now - process.pulse_seconds <= process.spec.still_after_seconds:
            return ""
        return (
            f"it stands still for more than {process.spec.still_after_seconds:.0f} s: it is frozen (kill -CONT "
            f"{process.child.pid} lets it go on), or the machine gives it no time"
        )

    def _ended(self, process: Supervised, how: str) -> None:
        if process.child is not None:
            process.child.kill()  # what is left of its group; all of it if it was not ready in time
        process.child = None
        process.identity = None
        process.last_failure = how
        policy = process.spec.restart
        now = self.clock_seconds()
        if self._was_for_the_disk(process):
            process.last_failure = f"{how}, and the disk is full: it is started again when there is room"
            process.start_again_seconds = now + policy.first_delay_seconds
            process.state = ProcessState.PAUSING
            return
        if now - process.started_seconds >= policy.healthy_after_seconds:
            process.restarts = 0
        if not process.spec.may_fail and process.restarts >= (
            policy.max_restarts if process.was_ready else policy.max_restarts_before_ready
        ):
            process.state = ProcessState.FAILED
            return
        process.start_again_seconds = now + policy.delay_seconds(min(process.restarts, policy.max_restarts))
        process.restarts += 1
        process.state = ProcessState.PAUSING

    def _was_for_the_disk(self, process: Supervised) -> bool:
        """Whether a process ended where the disk was full: no failure of its own, and no reason to give it up.

        What ends may free what it had taken, so that there is room again at this moment. One that was never ready is
        not excused by that: it does not fit on this disk, and somebody waits to hear why.
        """
        self._look_at_disk()
        return bool(self.full) or (process.was_ready and self._full_seconds >= process.started_seconds)

    def moved_seconds(self) -> float:
        """When a process was last started or said how far it is, on the supervisor's clock."""
        return max(process.moved_seconds for process in self.processes.values())

    def all_ready(self) -> bool:
        """Tell whether every process that has to has become ready; one may have got into trouble since."""
        return all(
            process.state in (ProcessState.READY, ProcessState.FAILING) or process.spec.may_fail
            for process in self.processes.values()
        )

    def failed(self) -> list[Supervised]:
        """Return the processes that were given up."""
        return [process for process in self.processes.values() if process.state is ProcessState.FAILED]

    def wait_ready(self, *, interrupted: Callable[[], bool] = lambda: False) -> bool:
        """Tick until all are ready; False if ``interrupted`` first.

        Raises:
            ChildFailedError: One was given up; each has its own time limit, so this ends.
        """
        while not self.all_ready():
            if interrupted():
                return False
            self.tick()
            self.raise_if_failed()
            time.sleep(0.05)
        return True

    def raise_if_failed(self) -> None:
        """Raise for the first process that was given up."""
        for process in self.failed():
            what = f"{process.last_failure} and was given up"
            raise ChildFailedError(process.spec.name, what, process.log, process.log_begins)

    def stop(self) -> list[str]:
        """End all, those first that need others; each has its own time to end, then it is killed.

        Returns:
            The names of those that had to be killed.
        """
        killed = []
        while level := self._needed_by_none():
            for process in level:  # together: ten agents should not take ten times as long as one
                if process.child is not None:
                    process.child.ask_to_stop()
            for process in level:
                if process.child is not None and not process.child.wait_stopped():
                    killed.append(process.spec.name)
                process.child = None
                process.identity = None
                process.state = ProcessState.STOPPED
                self._is_written_down = self.on_change()
        return killed

    def _needed_by_none(self) -> list[Supervised]:
        running = [process for process in self.processes.values() if process.state is not ProcessState.STOPPED]
        needed = {name for process in running for name in process.spec.needs}
        return [process for process in running if process.spec.name not in needed]


def _exit_words(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
