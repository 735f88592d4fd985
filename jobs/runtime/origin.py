"""Whose checkpoint, whose table, whose topics: compared when a query starts, and beside it while it runs.

At the start a difference is told before anything is written, and a checkpoint whose offsets mean nothing here is set
aside, so that the query begins where nothing is skipped (`streams.broker.origin` decides where). While the query runs
its topics' ids are looked at: one that is made anew ends the query, and its next start finds the difference.
"""

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow.fs as pafs
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from thalweg.conf.settings import Settings
from thalweg.jobs.runtime import origin_metrics as metrics
from thalweg.jobs.runtime.job import Flow, checkpoint_for
from thalweg.streams.broker.admin import TopicsNow, bounds_now, topics_now
from thalweg.streams.broker.origin import (
    CheckpointOrigin,
    Mismatch,
    Place,
    Present,
    Standing,
    beginning,
    compare,
    every_partition,
    lost_records,
    still_meant,
)
from thalweg.streams.broker.query_checkpoint import DamagedCheckpointError, QueryCheckpoint, origin_fields, origin_from
from thalweg.streams.broker.stored_checkpoint import can_look_into, files_at
from thalweg.sync.delta.contracts import TableContract
from thalweg.sync.delta.data_files import folder_of
from thalweg.sync.delta.store import open_or_create, table_uri

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery

LOOK_EVERY_S: Final = 2.0
"""Between two looks at the topics: one request to the broker, and a topic made anew is unread for no longer."""

NO_TABLE: Final = "none"

log = logging.getLogger("thalweg.origin")

Known = Callable[[], Mapping[Place, int]]


class OriginWatch:
    """What one query was made with; kept in its checkpoint and in its warehouse."""

    def __init__(
        self,
        settings: Settings,
        flow: Flow,
        table: TableContract,
        pattern: str,
        *,
        known: Known = dict,
        look: Callable[[], TopicsNow] | None = None,
        bounds: Callable[[list[Place]], tuple[Mapping[Place, int], Mapping[Place, int]]] | None = None,
    ) -> None:
        """Hold what is compared; nothing is looked at yet.

        Args:
            settings: everything.
            flow: whose checkpoint it is.
            table: the query's first table.
            pattern: of its topics' whole names.
            known: for a query that begins anew, where the tables' rows of each partition end.
            look: lists the topics; None asks the broker.
            bounds: where partitions begin and end; None asks the broker.
        """
        kafka = settings.kafka
        self._flow = flow.name
        self._table = table
        self._warehouse = settings.warehouse.path
        self._uri = table_uri(settings.warehouse.path, table.name)
        self._known = known
        self._look = look or (lambda: topics_now(kafka, pattern))
        self._bounds = bounds or (lambda places: bounds_now(kafka, places))
        place = checkpoint_for(settings, flow)
        self._checkpoint = QueryCheckpoint(files_at(place)) if can_look_into(place) else None
        self._origin: CheckpointOrigin | None = None
        self._told_until: dict[Place, int] = {}
        self.begin_at: Mapping[Place, int] = {}
        """Where the query begins if it has no batch yet; empty for the earliest."""

    @property
    def topic_ids(self) -> Mapping[str, str]:
        """Ids of the query's topics, by name, as they were at its start."""
        return self._origin.topic_ids if self._origin is not None else {}

    @property
    def known_until(self) -> Mapping[Place, int]:
        """Where rows of an earlier query may be in the tables already."""
        return self._origin.known_until if self._origin is not None else {}

    # At the start

    def settle(self) -> list[Mismatch]:
        """Compare, say what differs, and set aside what cannot be gone on with; before the query writes anything.

        Raises:
            BrokerUnavailableError: nobody answers.
        """
        topics = self._look()
        self._compare_warehouse(topics)
        checkpoint = self._checkpoint
        standing = self._standing()
        origin = checkpoint.origin() if checkpoint is not None else None
        present = self._present(topics, standing)
        mismatches = compare(origin, standing, present)
        for mismatch in mismatches:
            self._tell(mismatch)
        begin = beginning(mismatches, origin, standing, topics.partitions)
        if begin is not None and checkpoint is not None:
            aside = checkpoint.set_aside()
            log.warning("checkpoint set aside", extra={"fields": {"job": self._flow, "folder": aside}})
        other_table = origin is not None and origin.warehouse_id != present.warehouse_id
        anew = begin is not None or other_table or (standing.batch is None and origin is None)
        if begin is None and standing.batch is None and origin is not None:
            begin = every_partition(meant, topics.partitions) if (meant := still_meant(origin, present)) else None
        self.begin_at = begin or {}
        table = open_or_create(self._table, self._warehouse)
        known: Mapping[Place, int] = origin.known_until if origin is not None else {}
        self._remember(
            CheckpointOrigin(
                warehouse_id=str(table.metadata().id),
                cluster_id=topics.cluster_id,
                topic_ids=topics.topic_ids,
                table_version=table.version(),
                begin_at=self.begin_at,
                known_until=dict(self._known()) if anew else known,
            )
        )
        return mismatches

    def _standing(self) -> Standing:
        try:
            return self._checkpoint.standing() if self._checkpoint is not None else Standing()
        except DamagedCheckpointError as error:
            # Spark will refuse it too, in this query alone; a person moves it away.
            log.error(f"{error}: the query cannot go on from it", extra={"fields": {"job": self._flow}})
            return Standing()

    def _present(self, topics: TopicsNow, standing: Standing) -> Present:
        starts, ends = self._bounds(list(standing.planned)) if standing.planned else ({}, {})
        try:
            table = DeltaTable(self._uri)
        except TableNotFoundError:
            table = None
        return Present(
            warehouse_id=NO_TABLE if table is None else str(table.metadata().id),
            table_version=None if table is None else table.version(),
            table_batch=None
            if table is None or standing.query_id is None
            else table.transaction_version(standing.query_id),
            cluster_id=topics.cluster_id,
            topic_ids=topics.topic_ids,
            starts=starts,
            ends=ends,
        )

    def _compare_warehouse(self, topics: TopicsNow) -> None:
        before = read_warehouse_origin(self._warehouse, self._flow)
        if before is not None and before.cluster_id != topics.cluster_id:
            log.warning(
                f"the warehouse's tables were built from Kafka cluster {before.cluster_id}, here is "
                f"{topics.cluster_id}: they are kept, and go on with what this cluster's topics hold",
                extra={"fields": {"job": self._flow}},
            )

    def _tell(self, mismatch: Mismatch) -> None:
        log.warning(mismatch.sentence, extra={"fields": {"job": self._flow, "kind": mismatch.kind.value}})
        metrics.MISMATCHES.labels(self._flow, mismatch.kind.value).inc()
        if mismatch.lost:
            self._told_until[mismatch.topic or "", mismatch.partition] = mismatch.until
            metrics.RECORDS_LOST.labels(self._flow, mismatch.topic or "").inc(mismatch.lost)

    def _remember(self, origin: CheckpointOrigin) -> None:
        if origin == self._origin:
            return
        before, self._origin = self._origin, origin
        if self._checkpoint is not None:
            if before is None:
                self._checkpoint.begin()
            with suppress(FileNotFoundError):  # moved away while the query ends
                self._checkpoint.write_origin(origin)
        if before is None or (before.cluster_id, before.topic_ids) != (origin.cluster_id, origin.topic_ids):
            write_warehouse_origin(self._warehouse, self._flow, origin)

    # While the query runs

    def step(self, query: "StreamingQuery") -> None:
        """Look at the topics and the table once; end the query when one of its topics has been made anew."""
        assert self._origin is not None
        topics = self._look()
        before = self._origin
        anew = [topic for topic, now in topics.topic_ids.items() if before.topic_ids.get(topic, now) != now]
        if anew or topics.cluster_id != before.cluster_id:
            if query.isActive:
                what = f"topics made anew: {', '.join(sorted(anew))}" if anew else "another cluster answers"
                log.warning(f"{what}; the query ends and begins anew there", extra={"fields": {"job": self._flow}})
                query.stop()
            return
        if not query.isActive:
            return  # its checkpoint may have been moved away: a mark written now would stand for what is not there
        version = DeltaTable(self._uri).version()
        self._remember(replace(before, topic_ids={**before.topic_ids, **topics.topic_ids}, table_version=version))

    def unread(self, ranges: Mapping[Place, tuple[int, int]], first_read: Mapping[Place, int]) -> None:
        """Say and count what a batch was to read and the broker holds no longer.

        Args:
            ranges: first offset and the one after the last, of each partition of the batch.
            first_read: the first offset that was read of each.
        """
        wanted = {place: (max(begin, self._told_until.get(place, 0)), end) for place, (begin, end) in ranges.items()}
        gaps = {place: span for place, span in wanted.items() if first_read.get(place, span[1]) > span[0]}
        if not gaps:
            return
        # Markers of transactions leave holes too: only what lies before the broker's oldest record is lost.
        starts, _ = self._bounds(list(gaps))
        for (topic, partition), (begin, end) in gaps.items():
            start = min(starts.get((topic, partition), begin), end)
            if start > begin:
                self._tell(lost_records(topic, partition, begin, start))


def read_warehouse_origin(warehouse: str, flow: str) -> CheckpointOrigin | None:
    """Read what a flow's tables were built from; None if the warehouse does not say."""
    filesystem, folder = folder_of(warehouse)
    try:
        with filesystem.open_input_stream(f"{folder.rstrip('/')}/{flow}.origin.json") as file:
            return origin_from(json.loads(file.read()))
    except (OSError, ValueError):
        return None


def write_warehouse_origin(warehouse: str, flow: str, origin: CheckpointOrigin) -> None:
    """Say beside the tables what a flow's were built from."""
    filesystem, folder = folder_of(warehouse)
    target = f"{folder.rstrip('/')}/{flow}.origin.json"
    content = json.dumps({**origin_fields(origin), "begin_at": {}, "known_until": {}}).encode()
    fresh = f"{target}.new" if isinstance(filesystem, pafs.LocalFileSystem) else target
    with filesystem.open_output_stream(fresh) as file:
        file.write(content)
    if fresh != target:
        Path(fresh).rename(target)
