"""What `jobs/replicate` does for its tables beside its stream and between batches."""

import time
from typing import Final

from thalweg.jobs.runtime.append_upkeep import AppendUpkeep
from thalweg.jobs.runtime.job import Stop
from thalweg.sync.clock import Clock
from thalweg.sync.delta.upkeep import Upkeep
from thalweg.sync.tables.replicate_tables import ReplicateTables

SWEEP_EVERY_S: Final = 120
"""Between two sweeps of the tables that are written anew with every micro-batch."""


class TablesUpkeep:
    """Keeps the files and logs of the job's tables few: most of it beside the stream, the commits between batches."""

    def __init__(self, tables: ReplicateTables, every_s: int, clock: Clock, stop: Stop) -> None:
        self._tables = tables
        self._clock = clock
        self._every_s = every_s
        self._compacted = time.monotonic()
        self._appended = [
            AppendUpkeep(tables.conflicts, clock, stop),
            AppendUpkeep(tables.refused, clock, stop),
        ]
        self._keyed = [Upkeep(table.uri) for table in tables.keyed]
        self._swept = time.monotonic()

    def step(self) -> None:
        """Prepare what is due; called beside the stream."""
        for appended in self._appended:
            appended.step()
        for keyed in self._keyed:
            keyed.checkpoint()
        if time.monotonic() - self._swept >= SWEEP_EVERY_S:
            self._swept = time.monotonic()
            for keyed, table in zip(self._keyed, self._tables.keyed, strict=True):
                keyed.sweep(table.pending)

    def between_batches(self) -> None:
        """Commit what is prepared; called in the thread that writes."""
        for appended in self._appended:
            appended.commit()
        if time.monotonic() - self._compacted >= self._every_s:
            self._compacted = time.monotonic()
            for table in self._tables.keyed:
                table.compact(self._clock())
