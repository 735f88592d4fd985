"""Look for garbage in the time that Spark needs between two micro-batches, not in front of somebody's assignment.

Python's own collector runs whenever enough objects were made, which is in the middle of a batch, again and again where
a batch makes many; and its oldest generation holds the world. Here it rests during a batch. A thread looks after every
few batches, while the JVM plans the next one, and then takes what has survived out of sight: the world is a hundred
thousand objects that live long and form no cycles.
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from thalweg.jobs.runtime.job import Stop

BATCHES_BETWEEN: Final = 4
LOOK_AT_ALL_AFTER: Final = 20_000
"""Batches. Something in a cycle may have been taken out of sight while it was in use; about once an hour all of it is
looked at again."""
AUTOMATIC: Final = (200_000, 50, 1_000)
"""Where batches do not come, Python's collector still does: thresholds of its three generations."""

_COLLECTING: Final = threading.Lock()
"""Jobs that share a process share its interpreter: the timetable is that of the first, whose batches are waited for."""


@contextmanager
def without_collections() -> Iterator[None]:
    """Make many objects that live long: looking through those made so far, again and again, would take as long.

    At the end they are out of sight like what has survived (`Garbage`): the first look at millions would stop everybody
    for seconds, in the middle of the first batches.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()


class Garbage:
    """The collector's new timetable, for as long as the process lives."""

    def __init__(self, stop: Stop) -> None:
        """Take over from the automatic collector; the thread ends when asked to stop."""
        self._stop = stop
        self._due = threading.Event()
        self._batches = 0
        gc.set_threshold(*AUTOMATIC)
        stop.start(threading.Thread(target=self._run, name="garbage", daemon=True))

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Surround a batch. Another job's in this process may end the rest early, which costs no more than time."""
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            self._batches += 1
            if self._batches % BATCHES_BETWEEN == 0:
                self._due.set()

    def _run(self) -> None:
        if not _COLLECTING.acquire(blocking=False):
            return
        try:
            while not self._stop.asked():
                if self._due.wait(1.0):
                    self._due.clear()
                    if self._batches % LOOK_AT_ALL_AFTER < BATCHES_BETWEEN:
                        gc.unfreeze()
                    gc.collect()
                    gc.freeze()
        finally:
            _COLLECTING.release()
