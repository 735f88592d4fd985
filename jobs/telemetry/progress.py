"""Tell how far the stream of `jobs/observe` is."""

from typing import TYPE_CHECKING, Any

from thalweg.conf.settings import KafkaSettings
from thalweg.jobs.telemetry import metrics
from thalweg.streams.broker.lag import ProgressGroup, parse_offsets, records_behind
from thalweg.streams.telemetry.intake import FLOW_NAME

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery


class ProgressReport:
    """Tells how far the query is: the lag to Prometheus, the offsets to a shadow consumer group."""

    def __init__(self, query: "StreamingQuery", kafka: KafkaSettings) -> None:
        """Follow a query."""
        self._query = query
        self._kafka = kafka
        self._group: ProgressGroup | None = None

    def step(self) -> None:
        """Tell the latest progress."""
        progress: Any = self._query.lastProgress
        if not progress or not progress["sources"]:
            return
        source = progress["sources"][0]
        end = parse_offsets(source["endOffset"])
        metrics.LAG_RECORDS.set(records_behind(end, parse_offsets(source["latestOffset"])))
        if self._group is None:
            self._group = ProgressGroup(self._kafka, f"{self._kafka.topic_prefix}-{FLOW_NAME}")
        self._group.commit(end)

    def close(self) -> None:
        """Disconnect."""
        if self._group is not None:
            self._group.close()
