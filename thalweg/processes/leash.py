"""Run a command that cannot outlive its parent: ``python -I -S leash.py PARENT_PID COMMAND [ARGUMENT ...]``.

On Linux the kernel is asked to kill this process when the thread that started it ends, and the request survives
``execve``. A small program of its own, because the alternative, code between fork and exec in a process with threads,
may deadlock. Elsewhere the command just runs, and what a killed supervisor left is ended by the next one.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Tie this process to its parent, then become the command."""
    parent_pid, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        # SIGKILL: what is left alone must end even if it hangs; everything supervised is built to survive a crash.
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"leash: prctl(PR_SET_PDEATHSIG) failed: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != parent_pid:  # it died before we asked
            sys.exit("leash: the parent is gone")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
