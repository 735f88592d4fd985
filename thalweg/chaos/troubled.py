"""Run a module of ours in a process that can be troubled: `python -m thalweg.chaos.troubled MODULE [ARGUMENT ...]`.

What the product calls is wrapped from outside, before it is imported. So the product itself has no seam for faults:
nothing is to be switched off, and no setting or variable of a real installation reaches what is here.
"""

import dataclasses
import os
import runpy
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from thalweg.chaos.panel import PANEL, Panel

if TYPE_CHECKING:
    from thalweg.streams.contract.messages import AssignmentEvent

FAILS: Final = "fails"
"""First word of the command of a task whose runs are to fail, all or some."""
JOURNALS: Final = "THALWEG_CHAOS_JOURNALS"
"""Folder of an agent's journals."""


def main() -> None:
    """Put the seams in, and become the module."""
    module = sys.argv[1]
    panel = Panel(Path(os.environ[PANEL]))
    wrong_clock(panel)  # first: others take the clock from its module when they are imported
    slow_disk(panel)
    if module.startswith("thalweg.jobs."):
        mortal_batches(panel)
    else:
        slow_transactions(panel)
        noted_runs(Path(os.environ[JOURNALS]))
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def wrong_clock(panel: Panel) -> None:
    """Let the wall clock be wrong by what the panel says."""
    from thalweg.sync import clock

    true = clock.system_clock
    clock.system_clock = lambda: true() + panel.clock_ms


def slow_disk(panel: Panel) -> None:
    """Let whoever waits for the disk wait for as long as the panel says."""
    true = os.fsync

    def fsync(fd: Any) -> None:
        time.sleep(panel.disk_ms / 1000)
        true(fd)

    os.fsync = fsync


def slow_transactions(panel: Panel) -> None:
    """The same for an agent's file, which SQLite syncs by itself."""
    from thalweg.streams.placement.fence import Fence

    true = Fence.transaction

    @contextmanager
    def transaction(self: Fence) -> Iterator[Any]:
        with true(self) as connection:
            yield connection
            time.sleep(panel.disk_ms / 1000)

    Fence.transaction = transaction  # type: ignore[method-assign]


def mortal_batches(panel: Panel) -> None:
    """Let the process die at the point of a micro-batch that the panel names, as of kill -9, its JVM with it."""
    from thalweg.chaos.points import POINTS
    from thalweg.jobs.microbatch.microbatch import Microbatch
    from thalweg.jobs.microbatch.outcome import BatchId, BatchOutcome, BatchStep

    numbers = {point: number for number, point in enumerate(POINTS, 1)}

    def reach(point: str) -> None:
        if panel.dies_at == numbers[point]:
            panel.dies_at = 0
            os.killpg(os.getpgid(0), signal.SIGKILL)

    def mortal(job: str, name: str, step: BatchStep) -> BatchStep:
        def act() -> object:
            reach(f"{job}: before {name}")
            answer = step.act()
            reach(f"{job}: after {name}")
            return answer

        return dataclasses.replace(step, act=act)

    true_run, true_order = Microbatch.run, Microbatch._in_order

    def run(self: Microbatch[Any], records: Any, batch: BatchId, read_s: float = 0.0) -> None:
        panel.count_batch()
        reach(f"{self._job}: read")
        true_run(self, records, batch, read_s)
        reach(f"{self._job}: ended")

    def in_order(self: Microbatch[Any], outcome: BatchOutcome) -> list[tuple[str, BatchStep]]:
        reach(f"{self._job}: decided")
        return [(name, mortal(self._job, name, step)) for name, step in true_order(self, outcome)]

    Microbatch.run = run  # type: ignore[method-assign]
    Microbatch._in_order = in_order  # type: ignore[method-assign]


def noted_runs(folder: Path) -> None:
    """Let the simulated machines keep a journal of what runs on them."""
    from thalweg.agent import runners, simulate_runner
    from thalweg.chaos.journal import Journal, JournalSeat

    class NotedRunner(simulate_runner.SimulateRunner):
        """The same, and noted."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self._journal = Journal(folder, time.monotonic_ns)
            self._ways: dict[runners.RunKey, list[str]] = {}

        def start(self, event: "AssignmentEvent", now_ms: int) -> int | None:
            self._journal.note("begin", _key(event), _seats(event))
            self._begins(event, now_ms)
            return None

        def _begins(self, event: "AssignmentEvent", started_ms: int) -> None:
            super().resume(event, started_ms)
            if event.command and event.command[0] == FAILS:
                self._ways[runners.key_of(event)] = event.command

        def resume(self, event: "AssignmentEvent", started_ms: int) -> None:
            self._journal.note("resume", _key(event), _seats(event))
            self._begins(event, started_ms)

        def stop(self, key: runners.RunKey, now_ms: int) -> bool:
            self._journal.note("stopped", key)
            return super().stop(key, now_ms)

        def ended(self, now_ms: int) -> list[runners.Ended]:
            over = [self._as_asked(run) for run in super().ended(now_ms)]
            for run in over:
                self._journal.note("succeeded" if run.succeeded else "failed", run.key)
            return over

        def _as_asked(self, run: runners.Ended) -> runners.Ended:
            """Let a run fail that was to fail: (`fails`, how often, cause, exit code)."""
            way = self._ways.pop(run.key, None)
            if way is None or not run.succeeded or self._draw(run.key, FAILS) >= float(way[1]):
                return run
            cause: Any = way[2]
            return self._failure(run.key, int(way[3]) if len(way) > 3 else None, cause, "as it was asked to")

    def _key(event: "AssignmentEvent") -> tuple[str, str, int]:
        return event.region, event.task_id, event.epoch

    def _seats(event: "AssignmentEvent") -> list[JournalSeat]:
        return [
            JournalSeat(share.node_id, device, share.gpu_milli // len(share.devices) if share.gpu_milli else 1_000)
            for share in event.nodes
            for device in share.devices
        ]

    simulate_runner.SimulateRunner = NotedRunner  # type: ignore[misc]


if __name__ == "__main__":
    main()
