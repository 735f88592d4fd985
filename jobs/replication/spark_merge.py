"""Large batches: keys merged in Spark's tasks, rows written by Spark's MERGE. Small ones: both on the driver.

The tasks run `sync.centre.key_merge.merge_key`, the very function that the driver runs, so the result is the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa

from thalweg.conf.settings import ReplicateSettings
from thalweg.jobs.replication.replicator import WriteRecords
from thalweg.sync.centre.centre import Centre, MergeKeys
from thalweg.sync.centre.key_merge import Admitted, KeyOutcome, Recent, merge_key
from thalweg.sync.delta.contracts import RECORDS
from thalweg.sync.delta.store import table_uri
from thalweg.sync.protocol.records import Record
from thalweg.sync.protocol.stamps import Hlc
from thalweg.sync.tables.replicate_tables import ReplicateTables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SENT: Final = pa.schema(
    [("key", pa.string()), ("known", pa.binary()), ("recent", pa.binary()), ("admitted", pa.binary())]
)
_ENCODER: Final = msgspec.json.Encoder()
_NOT_OLDER: Final = (
    "struct(s.stamp_ms, s.stamp_counter, s.stamp_region) >= struct(t.stamp_ms, t.stamp_counter, t.stamp_region)"
)


class SparkMerge:
    """Chooses who merges a batch."""

    def __init__(
        self, spark: "SparkSession", tables: ReplicateTables, warehouse: str, settings: ReplicateSettings
    ) -> None:
        self._spark = spark
        self._settings = settings
        self._tables = tables
        self._uri = table_uri(warehouse, RECORDS.name)

    def __call__(self, centre: Centre, now_ms: int) -> tuple[MergeKeys, WriteRecords]:
        """Give the functions that merge a batch's keys and write its rows."""
        settings = self._settings
        merge_here = centre.merge_here(now_ms)
        large = settings.merge == "spark"

        def merge_keys(admitted: Mapping[str, Sequence[Admitted]]) -> Mapping[str, KeyOutcome]:
            nonlocal large
            large = large or (settings.merge == "auto" and len(admitted) >= settings.spark_from_keys)
            if not large or not admitted:
                return merge_here(admitted)
            return merge_by_spark(self._spark, centre, admitted, now_ms)

        def write_records(rows: pa.Table, now_ms: int) -> None:
            if large and rows.num_rows:
                self._merge_table(rows)
                self._tables.records_written_elsewhere()
            else:
                self._tables.write_records(rows, now_ms)

        return merge_keys, write_records

    def _merge_table(self, rows: pa.Table) -> None:
        """MERGE the rows; the same rows again change nothing."""
        from delta.tables import DeltaTable

        columns: Any = {name: f"s.{name}" for name in RECORDS.schema.names}
        (
            DeltaTable.forPath(self._spark, self._uri)
            .alias("t")
            .merge(self._spark.createDataFrame(rows).alias("s"), "t.key = s.key")
            .whenMatchedUpdate(_NOT_OLDER, columns)
            .whenNotMatchedInsert(values=columns)
            .execute()
        )


def merge_by_spark(
    spark: "SparkSession", centre: Centre, admitted: Mapping[str, Sequence[Admitted]], now_ms: int
) -> dict[str, KeyOutcome]:
    """Merge each key in a Spark task and collect the outcomes."""
    keys = list(admitted)
    sent = pa.table(
        {
            "key": keys,
            "known": [_ENCODER.encode(centre.records.get(key)) for key in keys],
            "recent": [_ENCODER.encode(centre.recents.get(key, ())) for key in keys],
            "admitted": [_ENCODER.encode(list(admitted[key])) for key in keys],
        },
        schema=_SENT,
    )
    through = centre.forgotten_through

    def merge_rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield merged_rows(batch, through, now_ms)

    frame: Any = spark.createDataFrame(sent).repartition(spark.sparkContext.defaultParallelism, "key")
    found = frame.mapInArrow(merge_rows, "key string, outcome binary").toArrow()
    decode = msgspec.json.Decoder(KeyOutcome).decode
    texts = zip(found["key"].to_pylist(), found["outcome"].to_pylist(), strict=True)
    by_key = {key: decode(text) for key, text in texts}
    return {key: by_key[key] for key in keys}


def merged_rows(batch: pa.RecordBatch, forgotten_through: Hlc, now_ms: int) -> pa.RecordBatch:
    """Merge one Arrow batch of keys; runs in a Spark task."""
    known = msgspec.json.Decoder(Record | None)
    recent = msgspec.json.Decoder(Recent)
    admitted = msgspec.json.Decoder(list[Admitted])
    keys, outcomes = [], []
    for key, before, writes, items in zip(*(batch.column(n).to_pylist() for n in _SENT.names), strict=True):
        outcome = merge_key(
            known.decode(before), recent.decode(writes), admitted.decode(items), forgotten_through, now_ms
        )
        keys.append(key)
        outcomes.append(_ENCODER.encode(outcome))
    columns = [pa.array(keys, pa.string()), pa.array(outcomes, pa.binary())]
    return pa.RecordBatch.from_arrays(columns, ["key", "outcome"])
