"""Python's work beside the stream lets the micro-batch go first.

Threads of one interpreter share it evenly, so a fold that runs beside a batch doubles the batch's time. A batch takes
half of its period; the other half Spark is at work in the JVM, and that is when work beside it goes on.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

LONGEST_REST_S: Final = 0.1
"""A rest ends after this even when the batch goes on (it waits for a disk): courtesy, not a lock."""


class BatchFirst:
    """Whether a micro-batch is under way."""

    def __init__(self) -> None:
        self._idle = threading.Event()
        self._idle.set()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Go first until the end of the block."""
        self._idle.clear()
        try:
            yield
        finally:
            self._idle.set()

    def rest(self) -> None:
        """Let a batch that is under way go first; called every few milliseconds by long work beside it."""
        self._idle.wait(LONGEST_REST_S)
