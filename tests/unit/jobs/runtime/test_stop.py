"""Being asked to stop by a signal, whatever the process does at that moment."""

import signal
import subprocess
import sys

import pytest

IN_THE_MIDDLE_OF_WAIT = """
import signal
from thalweg.jobs.runtime.job import Stop
stop = Stop().on_signals()
with stop._event._cond:  # as `wait` holds it for some microseconds
    signal.raise_signal(signal.{name})
print(stop.wait(60))
"""
TWICE = """
import signal
from thalweg.jobs.runtime.job import Stop
stop = Stop().on_signals()
signal.raise_signal(signal.SIGTERM)
assert stop.wait(60)
signal.raise_signal(signal.SIGTERM)
"""


def run(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=90)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_that_comes_in_the_middle_of_waiting_is_obeyed(name: str) -> None:
    done = run(IN_THE_MIDDLE_OF_WAIT.format(name=name))
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_second_signal_ends_the_process_at_once() -> None:
    assert run(TWICE).returncode == 128 + signal.SIGTERM
