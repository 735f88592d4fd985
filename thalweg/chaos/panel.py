"""The troubles of one process: a page of numbers that the chaos writes and the process reads in the middle of its work.

A mapped file, so that a reading costs less than a microsecond, and what the process counts outlives its death.
"""

import mmap
import struct
from pathlib import Path
from typing import Final

_NUMBERS: Final = struct.Struct("<4q")
_CLOCK, _DISK, _POINT, _BATCHES = range(4)
PANEL: Final = "THALWEG_CHAOS_PANEL"
"""Names a process's page. Only `thalweg.chaos.troubled` reads it, by which only the chaos starts its processes."""


class Panel:
    """See the module's words."""

    def __init__(self, path: Path) -> None:
        """Open the page, or make it: without trouble."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.truncate(_NUMBERS.size)
            self._page = mmap.mmap(file.fileno(), _NUMBERS.size)

    @property
    def clock_ms(self) -> int:
        """By how much its wall clock is wrong."""
        return self._get(_CLOCK)

    @clock_ms.setter
    def clock_ms(self, ms: int) -> None:
        self._set(_CLOCK, ms)

    @property
    def disk_ms(self) -> int:
        """How long the disk takes for each thing that is to stay."""
        return self._get(_DISK)

    @disk_ms.setter
    def disk_ms(self, ms: int) -> None:
        self._set(_DISK, ms)

    @property
    def dies_at(self) -> int:
        """Number of the point at which it dies, from 1; 0 lets it live."""
        return self._get(_POINT)

    @dies_at.setter
    def dies_at(self, number: int) -> None:
        self._set(_POINT, number)

    @property
    def batches(self) -> int:
        """Micro-batches that it has begun, over all its lives."""
        return self._get(_BATCHES)

    def count_batch(self) -> None:
        """Count one more."""
        self._set(_BATCHES, self.batches + 1)

    def _get(self, which: int) -> int:
        return int(struct.unpack_from("<q", self._page, 8 * which)[0])

    def _set(self, which: int, value: int) -> None:
        struct.pack_into("<q", self._page, 8 * which, value)
