"""Find and end what a cut-off stack left, by a mark in its environment: no record is needed, no number believed."""

import contextlib
import os

import psutil

from thalweg.stack.state import StateFolder

# In the environment of every supervised process and of what it starts in turn: the state folder it works for. By it a
# process left over from a killed stack is known, whatever happened to its parents and their records.
SUPERVISED_IN = "THALWEG_SUPERVISED_IN"


def end_leftovers(folder: StateFolder) -> list[str]:
    """Kill what an earlier supervisor of this folder left behind; call it only while holding the folder.

    On Linux children end with their supervisor, but a JVM may take a moment longer than the Python that started it.

    Returns:
        What was ended, as "name (pid)".
    """
    left = leftovers(folder)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=10)
    return [f"{process.info['name']} ({process.pid})" for process in left]


def leftovers(folder: StateFolder) -> list[psutil.Process]:
    """Return the processes that were started for a stack in this folder and still run."""
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(SUPERVISED_IN) == str(folder.path):
                found.append(process)
    return found
