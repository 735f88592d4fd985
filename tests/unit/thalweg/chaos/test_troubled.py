"""What is wrapped around a process does what the panel says, there where the product's own code calls it."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from msgspec.structs import astuple

from thalweg.chaos.journal import read_journal
from thalweg.chaos.panel import Panel
from thalweg.chaos.points import POINTS

BATCH = """
    from thalweg.jobs.microbatch.microbatch import Microbatch
    from thalweg.jobs.microbatch.outcome import BatchId, BatchOutcome, BatchStep
    from thalweg.jobs.placement.placer import EVENTS, LEDGER, ORDER
    from thalweg.jobs.runtime.job import Stop
    troubled.mortal_batches(panel)
    steps = {name: BatchStep(act=lambda name=name: print(name, flush=True)) for name in (LEDGER, EVENTS)}
    batches = Microbatch(job="place", order=ORDER, read=None, dead_letters=None, stop=Stop(),
        decide=lambda records, batch: print("decide", flush=True) or BatchOutcome(steps=steps))
    batches.run([], BatchId("q", 1))
    print("ended", flush=True)
"""


def told(panel: Path, code: str) -> "subprocess.CompletedProcess[str]":
    """Run code in a process, and a group, of its own."""
    begin = f"""
        from pathlib import Path
        from thalweg.chaos import troubled
        from thalweg.chaos.panel import Panel
        panel = Panel(Path({str(panel)!r}))
    """
    program = textwrap.dedent(begin) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False, start_new_session=True
    )


@pytest.fixture
def panel(tmp_path: Path) -> Path:
    return tmp_path / "panel"


@pytest.mark.parametrize("step_ms", [0, -3_600_000, 60_000])
def test_the_clock_that_others_import_is_wrong_by_what_the_panel_says(panel: Path, step_ms: int) -> None:
    Panel(panel).clock_ms = step_ms
    code = """
        import time
        troubled.wrong_clock(panel)
        from thalweg.cli.agent_command import system_clock
        print(system_clock() - time.time_ns() // 1_000_000)
    """
    assert int(told(panel, code).stdout) == pytest.approx(step_ms, abs=1_000)


def test_what_waits_for_the_disk_waits_longer(panel: Path, tmp_path: Path) -> None:
    Panel(panel).disk_ms = 120
    code = f"""
        import time
        troubled.slow_disk(panel)
        troubled.slow_transactions(panel)
        from thalweg.streams.placement.fence import Fence
        from thalweg.sync.delta.durable import sync_folder
        began = time.monotonic()
        sync_folder({str(tmp_path)!r})
        synced = time.monotonic()
        with Fence(Path({str(tmp_path / "fence")!r})).transaction():
            pass
        print(synced - began > 0.12, time.monotonic() - synced > 0.12)
    """
    assert told(panel, code).stdout.split() == ["True", "True"]


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ("place: read", []),
        ("place: decided", ["decide"]),
        ("place: before ledger", ["decide"]),
        ("place: after ledger", ["decide", "ledger"]),
        ("place: before events", ["decide", "ledger"]),
        ("place: after events", ["decide", "ledger", "events"]),
        ("place: ended", ["decide", "ledger", "events"]),
    ],
)
def test_a_process_dies_at_the_point_of_its_batch_that_it_was_told(panel: Path, point: str, said: list[str]) -> None:
    Panel(panel).dies_at = POINTS.index(point) + 1
    ended = told(panel, BATCH)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert ended.stdout.split() == said
    assert Panel(panel).dies_at == 0, "the next life lives"
    assert Panel(panel).batches == 1


def test_a_process_that_is_told_nothing_lives(panel: Path) -> None:
    ended = told(panel, BATCH)
    assert (ended.returncode, ended.stdout.split()) == (0, ["decide", "ledger", "events", "ended"]), ended.stderr


def test_runs_fail_as_their_tasks_ask_and_each_the_same_way_after_a_restart(panel: Path, tmp_path: Path) -> None:
    code = f"""
        troubled.noted_runs(Path({str(tmp_path / "journals")!r}))
        from thalweg.cli.agent_command import SimulateRunner
        from thalweg.streams.contract.messages import AssignmentEvent
        def life(begin):
            runner = SimulateRunner(time_scale=1000.0)
            for number in range(60):
                command = [["fails", "1.0", "exit", "3"], ["fails", "0.5", "memory"], ["train", "fails"]][number % 3]
                getattr(runner, begin)(AssignmentEvent(event_id="e", type="assign", task_id=f"t{{number:02d}}", epoch=1,
                    region="r", expected_s=1, command=command), 0)
            over = sorted(runner.ended(10_000), key=lambda run: run.key)
            return [(run.succeeded, run.cause, run.exit_code) for run in over]
        first = life("start")
        print(set(first[0::3]), len(set(first[1::3])), set(first[2::3]), life("resume") == first)
    """
    assert told(panel, code).stdout.strip() == "{(False, 'exit', 3)} 2 {(True, None, 0)} True"


def test_the_machines_keep_a_journal_that_a_kill_does_not_end(panel: Path, tmp_path: Path) -> None:
    code = f"""
        import os, signal
        troubled.noted_runs(Path({str(tmp_path / "journals")!r}))
        from thalweg.cli.agent_command import SimulateRunner
        from thalweg.streams.contract.messages import AssignmentEvent, NodeShare
        runner = SimulateRunner(time_scale=1000.0)
        for number, share in enumerate((NodeShare(node_id="n", gpus=2, devices=[0, 3]),
                                        NodeShare(node_id="n", gpu_milli=800, devices=[1, 1]))):
            runner.start(AssignmentEvent(event_id="e", type="assign", task_id=f"t{{number}}", epoch=3, region="r",
                nodes=[share], expected_s=1), 0)
        runner.ended(10_000)
        runner.resume(AssignmentEvent(event_id="e", type="assign", task_id="t2", epoch=3, region="r"), 0)
        runner.stop(("r", "t2", 3), 0)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = told(panel, code)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    (life,) = (tmp_path / "journals").iterdir()
    lines = list(read_journal(life))
    assert [(line.what, line.task_id) for line in lines] == [
        ("begin", "t0"),
        ("begin", "t1"),
        ("succeeded", lines[2].task_id),
        ("succeeded", lines[3].task_id),
        ("resume", "t2"),
        ("stopped", "t2"),
    ]
    assert [[astuple(seat) for seat in line.seats] for line in lines[:2]] == [
        [("n", 0, 1_000), ("n", 3, 1_000)],
        [("n", 1, 400), ("n", 1, 400)],
    ]
    assert [line.at_ns for line in lines] == sorted(line.at_ns for line in lines)
    assert {(line.region, line.epoch) for line in lines} == {("r", 3)}
