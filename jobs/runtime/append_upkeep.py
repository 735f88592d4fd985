"""Keep an append-only table small beside the stream that writes it: compaction, retention, checkpoints, sweeping."""

import logging
import queue
import time
from typing import Final

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from thalweg.jobs.runtime.job import Stop
from thalweg.sync.clock import Clock
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.compaction import files_of, groups_to_merge, rewrite
from thalweg.sync.delta.store import RearrangedError
from thalweg.sync.delta.upkeep import Upkeep, expired

log = logging.getLogger("thalweg.upkeep")

SWEEP_EVERY_S: Final = 600
# A step of the rewrite takes a core for some tens of milliseconds; with this pause it takes a tenth of one.
_PACE_S: Final = 0.4


class AppendUpkeep:
    """Keeps one table small. `step` prepares in a thread of its own; `commit` belongs to the writer's thread."""

    def __init__(self, table: Appender, clock: Clock, stop: Stop) -> None:
        """Look after a table.

        Args:
            table: its writer; only `commit` uses it.
            clock: the wall clock.
            stop: ends a rewrite in the middle; nothing is left behind.
        """
        self._table = table
        self._clock = clock
        self._stop = stop
        self._upkeep = Upkeep(table.uri)
        self._prepared: queue.SimpleQueue[tuple[str, list[AddAction | RemoveAction]]] = queue.SimpleQueue()
        self._swept_at = time.monotonic()

    def step(self) -> None:
        """Prepare what is due."""
        self._upkeep.checkpoint()
        self._table.pending.keep_young()
        if self._prepared.empty() and not self._stop.asked():
            files = files_of(DeltaTable(self._table.uri))
            old = expired(files, self._table.contract, self._clock())
            if old:
                self._prepared.put(("retention", list(old)))
            else:
                for group in groups_to_merge(files, self._table.contract):
                    merged = rewrite(self._table, group, self._clock(), lambda: self._stop.wait(_PACE_S))
                    if merged is not None:
                        self._prepared.put(("compaction", merged.actions))
        if time.monotonic() - self._swept_at > SWEEP_EVERY_S:
            self._upkeep.sweep(self._table.pending)
            self._swept_at = time.monotonic()

    def commit(self) -> None:
        """Commit what is prepared."""
        while not self._prepared.empty():
            purpose, actions = self._prepared.get()
            try:
                self._table.commit(actions, purpose=purpose)
            except (RearrangedError, FileNotFoundError) as error:
                # The table is not what it was when this was prepared: somebody else has merged its files, or this
                # process slept so long that the new file was swept. It is prepared anew.
                self._table.abandon(actions)
                log.info("%s of %s is begun anew: %s", purpose, self._table.contract.name, error)
            except (OSError, DeltaError) as error:
                self._prepared.put((purpose, actions))
                log.warning("%s of %s is put off: %s", purpose, self._table.contract.name, error)
                return
