"""What `jobs/observe` does beside its stream: compaction, retention, checkpoints, sweeping, telling its progress."""

import logging
import queue
import time
from typing import TYPE_CHECKING, Any, Final

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from conf.settings import Kafka
from jobs import observe_metrics as metrics
from jobs.runtime import Clock, Stop
from streams.intake import FLOW_NAME
from streams.lag import ShadowGroup, parse_offsets, records_behind
from sync.appender import Appender
from sync.compaction import files_of, groups_to_merge, rewrite
from sync.upkeep import Upkeep, expired

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery

log = logging.getLogger("thalweg.observe")

SWEEP_EVERY_S: Final = 600
# A step of the rewrite takes a core for some tens of milliseconds; with this pause it takes a tenth of one.
_PACE_S: Final = 0.4


class HistoryUpkeep:
    """Keeps `telemetry` small. `step` prepares in a thread of its own; `commit` belongs to the writer's thread."""

    def __init__(self, history: Appender, clock: Clock, stop: Stop) -> None:
        """Look after a table.

        Args:
            history: the table's writer; only `commit` uses it.
            clock: the wall clock.
            stop: ends a rewrite in the middle; nothing is left behind.
        """
        self._history = history
        self._clock = clock
        self._stop = stop
        self._upkeep = Upkeep(history.uri)
        self._prepared: queue.SimpleQueue[tuple[str, list[AddAction | RemoveAction]]] = queue.SimpleQueue()
        self._swept_at = time.monotonic()

    def step(self) -> None:
        """Prepare what is due."""
        self._upkeep.checkpoint()
        if self._prepared.empty() and not self._stop.asked():
            files = files_of(DeltaTable(self._history.uri))
            old = expired(files, self._history.contract, "day", self._clock())
            if old:
                self._prepared.put(("retention", list(old)))
            else:
                for group in groups_to_merge(files):
                    merged = rewrite(self._history.uri, group, self._clock(), lambda: self._stop.wait(_PACE_S))
                    if merged is not None:
                        self._prepared.put(("compaction", merged.actions))
        if time.monotonic() - self._swept_at > SWEEP_EVERY_S:
            self._upkeep.sweep()
            self._swept_at = time.monotonic()

    def commit(self) -> None:
        """Commit what is prepared."""
        while not self._prepared.empty():
            purpose, actions = self._prepared.get()
            try:
                self._history.commit(actions, purpose=purpose)
            except (OSError, DeltaError) as error:
                self._prepared.put((purpose, actions))
                log.warning("%s of telemetry is put off: %s", purpose, error)
                return


class ProgressReport:
    """Tells how far the query is: the lag to Prometheus, the offsets to a shadow consumer group."""

    def __init__(self, query: "StreamingQuery", kafka: Kafka) -> None:
        """Follow a query."""
        self._query = query
        self._kafka = kafka
        self._group: ShadowGroup | None = None

    def step(self) -> None:
        """Tell the latest progress."""
        progress: Any = self._query.lastProgress
        if not progress or not progress["sources"]:
            return
        source = progress["sources"][0]
        end = parse_offsets(source["endOffset"])
        metrics.LAG_RECORDS.set(records_behind(end, parse_offsets(source["latestOffset"])))
        if self._group is None:
            self._group = ShadowGroup(self._kafka, f"{self._kafka.topic_prefix}-{FLOW_NAME}")
        self._group.commit(end)

    def close(self) -> None:
        """Disconnect."""
        if self._group is not None:
            self._group.close()
