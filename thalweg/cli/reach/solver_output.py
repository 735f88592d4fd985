"""Keep standard output for what a command says: HiGHS now and then prints a line past Python, whatever it is told."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def solvers_to_stderr() -> Iterator[None]:
    """Let what native code prints meanwhile go to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C has buffered still belongs to the solver
        os.dup2(kept, 1)
        os.close(kept)
