"""Days that pass in minutes: the clocks of what is measured are ours, and the disk's ages are made to agree.

What the product calls is replaced from outside, as `thalweg.chaos.troubled` does: the product has no seam for it. Our
time runs in the machine's past. So what is older than its retention by our clock has to be made so for Delta, which
asks the machine: a sweep is told of the lag between the two, and while a log is cleaned, its entries' ages are moved
by it. One thing stays as the machine sees it: a checkpoint keeps no note of replaced files, since for the machine their
hour is over. So those files are swept by their own age, which is the longer way for `decisions` in any case.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from deltalake import DeltaTable

from thalweg.sync import clock
from thalweg.sync.delta import upkeep
from thalweg.sync.delta.contracts import CONTRACTS

HOUR_MS: Final = 3_600_000


class PassingTime:
    """A clock that is moved by whoever holds it; all of the product reads it while `kept`."""

    def __init__(self, passes_ms: int) -> None:
        """Begin so long ago that all that is to pass ends a day before now.

        Args:
            passes_ms: how much will pass at most.
        """
        self._machine = clock.system_clock
        self._began_s = self._machine() / 1_000
        self.now_ms = self._machine() - passes_ms - 24 * HOUR_MS

    def passes(self, seconds: float) -> None:
        """Move on."""
        self.now_ms += round(seconds * 1_000)

    def read(self) -> int:
        """Read the clock, in milliseconds since 1970."""
        return self.now_ms

    @property
    def lag_ms(self) -> int:
        """How far the machine's clock is ahead."""
        return self._machine() - self.now_ms

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Let the product's modules that are imported by now read this clock."""
        ours: Any = SimpleNamespace(monotonic=lambda: self.now_ms / 1_000, perf_counter=time.perf_counter)
        modules = [module for name, module in list(sys.modules.items()) if name.startswith("thalweg.")]
        replaced: list[tuple[Any, str, Any]] = [(upkeep, "DeltaTable", self._table())]
        replaced += [
            (module, "system_clock", self.read)
            for module in modules
            if getattr(module, "system_clock", None) is self._machine
        ]
        replaced += [(module, "time", ours) for module in modules if module.__name__ in _PACED]
        before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
        for module, name, value in replaced:
            setattr(module, name, value)
        try:
            yield
        finally:
            for module, name, value in before:
                setattr(module, name, value)

    def _table(self) -> type[DeltaTable]:
        passing = self

        class TableInOurTime(DeltaTable):
            """Its retention ends when it is over by our clock."""

            def vacuum(self, retention_hours: int | None = None, *args: Any, **rest: Any) -> list[str]:
                folder = Path(self.table_uri.removeprefix("file://"))
                passing._date_new_files(folder)
                kept_ms = _kept_ms(folder.name) if retention_hours is None else retention_hours * HOUR_MS
                hours = -(-(kept_ms + passing.lag_ms) // HOUR_MS)  # whole hours, rather more
                return super().vacuum(hours, *args, **rest)

            def cleanup_metadata(self) -> None:
                folder = Path(self.table_uri.removeprefix("file://"))
                passing._date_new_files(folder)
                log = folder / "_delta_log"
                lag_s = passing.lag_ms / 1_000
                _move_ages(log, lag_s)
                super().cleanup_metadata()
                _move_ages(log, -lag_s)

        return TableInOurTime

    def _date_new_files(self, folder: Path) -> None:
        """Say of files that were written since the last look that they were written now, by our clock."""
        for found in _files(folder):
            if found.stat().st_mtime >= self._began_s - 1:
                os.utime(found.path, (self.now_ms / 1_000,) * 2)


_PACED: Final = frozenset(
    {
        "thalweg.jobs.placement.snapshots",
        "thalweg.jobs.placement.tables",
        "thalweg.jobs.runtime.append_upkeep",
    }
)
"""Modules that wait by a steady clock between two rounds of upkeep."""


def _kept_ms(table: str) -> int:
    """Read how long a table keeps files that were replaced."""
    (contract,) = (one for one in CONTRACTS if one.name == table)
    return contract.kept_minutes("deletedFileRetention") * 60_000


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    for found in os.scandir(folder):
        if found.is_dir():
            yield from _files(Path(found.path))
        else:
            yield found


def _move_ages(folder: Path, seconds: float) -> None:
    for found in _files(folder):
        moment = found.stat().st_mtime + seconds
        os.utime(found.path, (moment, moment))
