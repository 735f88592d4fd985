"""One at a time: a lock between processes that the kernel lets go when its holder dies."""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def exclusive(file: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock on ``file``, which must exist; ``on_wait`` is called once if somebody else holds it now."""
    with file.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
