"""Ctrl-C ends a command that reads, also while the engine works: real processes, which are sent a real signal."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.patience import PATIENCE_S

_ENDLESS = "select count(*) from generate_series(1, 900000) a(x) cross join generate_series(1, 900000) b(y) where x>y"
_SORTED = (
    "select x, y from generate_series(1, 20000) a(x) cross join generate_series(1, 20000) b(y) order by (x * y) % 9973"
)
_WORKS_S = 1.0
"""Of the processor's time since the engine was made ready: by then nothing else is left to do."""
_AT_ONCE_S = 10.0
"""For a busy machine; the statement itself would take days."""


@pytest.mark.parametrize("statement", [_ENDLESS, _SORTED])
def test_ctrl_c_ends_a_heavy_statement_at_once_and_leaves_no_file(tmp_path: Path, statement: str) -> None:
    scratch, warehouse = tmp_path / "scratch", tmp_path / "warehouse"
    scratch.mkdir()
    warehouse.mkdir()
    command = [sys.executable, "-P", "-m", "thalweg.cli.main", "sql", statement, "--warehouse", str(warehouse)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    ) as process:
        try:
            _wait_until_it_works(process, scratch)
            process.send_signal(signal.SIGINT)
            out, told = process.communicate(timeout=_AT_ONCE_S)
        finally:
            process.kill()
    assert (process.returncode, out, told) == (130, "", "")
    assert list(scratch.iterdir()) == []


def _wait_until_it_works(process: "subprocess.Popen[str]", scratch: Path) -> None:
    seen, ready_s, until = psutil.Process(process.pid), None, time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        times = seen.cpu_times()
        if ready_s is None and list(scratch.rglob("datafusion-*")):
            ready_s = times.user
        if ready_s is not None and times.user - ready_s > _WORKS_S:
            return
        time.sleep(0.02)
    raise AssertionError("the engine does not begin")
