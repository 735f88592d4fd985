import json
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from deltalake import write_deltalake

from tests.ledger_rows import START
from thalweg.cli import logs_command
from thalweg.cli.logs_command import LogPrinter
from thalweg.cli.main import cli
from thalweg.query.reports.ended_runs import EndedRun
from thalweg.query.reports.task_runs import PlacedRun, TaskRuns, task_runs

TIMESTAMP = pa.timestamp("us", tz="UTC")
RESULTS = pa.schema(
    [
        *(("task_id", pa.string()), ("copy", pa.int32()), ("epoch", pa.int64()), ("attempt", pa.int32())),
        *((name, pa.string()) for name in ("region", "state", "cause")),
        ("exit_code", pa.int64()),
        *((name, pa.string()) for name in ("metrics", "result", "log", "artefacts")),
        *(("started_at", TIMESTAMP), ("ended_at", TIMESTAMP), ("reason", pa.string()), ("name", pa.string())),
    ]
)


def put_results(warehouse: Path, *rows: dict[str, object]) -> None:
    """Write ended runs, as the place job does."""
    plain = {"copy": 0, "epoch": 1, "attempt": 1, "region": "gcp:us-west1", "state": "succeeded", "ended_at": START}
    write_deltalake(
        str(warehouse / "results"), pa.Table.from_pylist([plain | row for row in rows], RESULTS), mode="append"
    )


def run(*arguments: str, warehouse: Path) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--warehouse", str(warehouse)])


def log_at(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return f"file://{path}"


def test_the_log_of_an_ended_task_is_printed_and_the_exit_code_says_how_it_ended(
    warehouse: Path, tmp_path: Path
) -> None:
    first, second = log_at(tmp_path / "1" / "output.log", "first\n"), log_at(tmp_path / "2" / "output.log", "second\n")
    put_results(
        warehouse,
        {"task_id": "t3", "log": second, "epoch": 2, "attempt": 2, "ended_at": START + timedelta(seconds=9)},
        {"task_id": "t3", "log": first, "state": "failed"},
    )
    shown = run("logs", "t3", warehouse=warehouse)
    assert (shown.stdout, shown.exit_code) == ("second\n", 0)


def test_the_log_of_another_worker_lies_beside(warehouse: Path, tmp_path: Path) -> None:
    put_results(warehouse, {"task_id": "t3", "log": log_at(tmp_path / "output.log", "zero\n")})
    log_at(tmp_path / "output-2.log", "two\n")
    assert run("logs", "t3", "--worker", "2", warehouse=warehouse).stdout == "two\n"
    missing = run("logs", "t3", "--worker", "3", warehouse=warehouse)
    assert (missing.exit_code, "no log of a worker 3" in missing.stderr) == (1, True)


def test_a_pipe_gets_every_byte_and_a_terminal_what_it_does_not_obey(
    warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_results(warehouse, {"task_id": "t3", "log": log_at(tmp_path / "output.log", "\x1b[2Ja\x1b[31mb\x1b[0m\r")})
    assert run("logs", "t3", warehouse=warehouse).stdout_bytes == b"\x1b[2Ja\x1b[31mb\x1b[0m\r"
    monkeypatch.setattr(logs_command, "_is_terminal", lambda: True)
    assert run("logs", "t3", warehouse=warehouse).stdout_bytes == "␛[2Jab\n".encode()
    assert run("logs", "t3", "--raw", warehouse=warehouse).stdout_bytes == b"\x1b[2Ja\x1b[31mb\x1b[0m\r"


def test_words_are_true(warehouse: Path, tmp_path: Path) -> None:
    unknown = run("logs", "nobody", warehouse=warehouse)
    assert (unknown.exit_code, unknown.stderr) == (2, "Error: no such task: nobody\n")
    waiting = run("logs", "t2", warehouse=warehouse)
    assert waiting.exit_code == 1
    assert waiting.stderr == "Error: t2 has not begun: waiting (no pool has 512 free GPUs)\n"
    assert "t4 has not begun: assigned" in run("logs", "t4", warehouse=warehouse).stderr
    put_results(warehouse, {"task_id": "t3", "log": "file://elsewhere/state/output.log"})
    far = run("logs", "t3", warehouse=warehouse)
    assert far.exit_code == 1
    assert "of region gcp:us-west1, is on the disk of elsewhere at /state/output.log" in far.stderr
    assert "cannot be read from here" in far.stderr
    (tmp_path / "output.log").symlink_to("/etc/passwd")
    put_results(warehouse, {"task_id": "t3", "epoch": 5, "log": f"file://{socket.gethostname()}{tmp_path}/output.log"})
    assert "a link, which is not followed" in run("logs", "t3", warehouse=warehouse).stderr


def test_a_task_that_left_no_log_says_how_it_ended(warehouse: Path) -> None:
    assert "t3 has left no log: succeeded" in run("logs", "t3", warehouse=warehouse).stderr


def test_of_an_array_the_logs_of_its_elements_are_named(tmp_path: Path) -> None:
    from tests.unit.cli.test_results_command import sweep

    sweep(tmp_path, 3)
    assert "its elements do: thalweg logs 'sweep[0]'" in run("logs", "sweep", warehouse=tmp_path).stderr


def test_results_are_listed_with_what_the_newest_run_gave(warehouse: Path) -> None:
    put_results(
        warehouse,
        {"task_id": "t3", "state": "failed", "cause": "memory", "exit_code": -9, "ended_at": START},
        {
            "task_id": "t3",
            "epoch": 2,
            "result": '{"accuracy": 0.97}',
            "metrics": '{"loss": 0.5}',
            "artefacts": '{"w.bin": "s3://b/w.bin"}',
            "exit_code": 0,
            "ended_at": START + timedelta(seconds=5),
        },
    )
    shown = run("results", "t3", "--json", warehouse=warehouse)
    assert shown.exit_code == 0
    found = json.loads(shown.stdout)
    assert (found["state"], found["result"], found["metrics"]) == ("succeeded", {"accuracy": 0.97}, {"loss": 0.5})
    assert [(run["state"], run["cause"], run["exit_code"]) for run in found["runs"]] == [
        ("failed", "memory", -9),
        ("succeeded", None, 0),
    ]
    printed = run("results", "t3", warehouse=warehouse).stdout
    for words in ("t3: succeeded", "memory", "accuracy", "0.97", "w.bin", "s3://b/w.bin"):
        assert words in printed


def test_results_of_a_task_that_runs_or_is_unknown(warehouse: Path) -> None:
    running = run("results", "t1", warehouse=warehouse)
    assert (running.exit_code, running.stdout) == (0, "t1: running in aws:us-east-1\nno run of it has ended\n")
    assert run("results", "nobody", warehouse=warehouse).exit_code == 2


def test_a_placed_copy_is_found_with_its_region(warehouse: Path) -> None:
    found = task_runs("t1", str(warehouse))
    assert found is not None
    assert [(placed.region, placed.state) for placed in found.placed] == [("aws:us-east-1", "running")]
    assert not found.has_ended


# following


def runs(state: str, *, epoch: int = 1, log: str | None = None) -> TaskRuns:
    placed = PlacedRun(copy=0, epoch=epoch, region="r", state=state, changed_at=START)
    over = EndedRun(
        copy=0, epoch=epoch, attempt=1, region="r", state=state, cause=None, exit_code=0, metrics={}, result=None,
        log=log, artefacts={}, started_at=START, ended_at=START, reason=None,
    )  # fmt: skip
    ended = state not in ("running", "assigned", "waiting")
    return TaskRuns(
        task_id="t",
        state=state,
        reason=None,
        placed=() if ended or state == "waiting" else (placed,),
        ended=(over,) if ended else (),
    )


def follow(steps: list[Callable[[], TaskRuns]], live: Callable[[PlacedRun], str | None]) -> int:
    left = iter(steps)
    printer = LogPrinter(worker=0, copy=None, live_log=live)

    def read() -> TaskRuns:
        return next(left)()

    return logs_command._print(printer, read, follow=True)


def test_who_follows_a_log_that_cannot_be_read_from_here_is_told_at_once() -> None:
    with pytest.raises(logs_command.UnreadableLogError, match="is on the disk of elsewhere"):
        follow([lambda: runs("running")], lambda _: "file://elsewhere/output.log")


def test_who_follows_sees_each_line_once_through_a_restart_elsewhere_to_the_end(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs_command, "LOOK_EVERY_S", 0.0)
    asked: list[int] = []

    def live(run: PlacedRun) -> str:
        asked.append(run.epoch)
        return f"file://{tmp_path}/{run.epoch}/output.log"

    def says(epoch: int, text: str, then: TaskRuns) -> Callable[[], TaskRuns]:
        def step() -> TaskRuns:
            log_at(tmp_path / str(epoch) / "output.log", text)
            return then

        return step

    code = follow(
        [
            lambda: runs("waiting"),
            lambda: runs("waiting"),
            lambda: runs("running"),  # its log is not there yet
            says(1, "a\n", runs("running")),
            says(1, "a\nb\n", runs("running")),
            lambda: runs("waiting"),
            says(2, "c\n", runs("running", epoch=2)),
            says(2, "c\nd\n", runs("failed", epoch=2, log=f"file://{tmp_path}/2/output.log")),
        ],
        live,
    )
    shown = capfdbinary.readouterr()
    assert (code, shown.out) == (1, b"a\nb\nc\nd\n")
    assert shown.err.splitlines() == [
        b"[thalweg: t has not begun: waiting]",
        b"[thalweg: the log of t is not there (any more): file://%b/1/output.log]" % bytes(tmp_path),
        b"[thalweg: t has not begun: waiting]",
        b"[thalweg: t runs again, in region r]",
    ]
    assert asked == [1, 2]
