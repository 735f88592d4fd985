"""Spread the intake of a large micro-batch over Spark tasks: each writes its files, the driver gets a few kilobytes.

Every task runs the same pure functions as the driver does with a small batch (`streams.telemetry.intake`), so the rows
are the same; only who writes them differs. A task that is tried again leaves files that no commit names, which the next
vacuum removes.
"""

import gc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import pyarrow as pa
from deltalake.transaction import AddAction

from thalweg.streams.broker.deadletter import RefusedRecord
from thalweg.streams.telemetry.intake import take_in
from thalweg.streams.telemetry.record_rows import to_records
from thalweg.streams.telemetry.rules import FieldRule
from thalweg.sync.delta.contracts import QUARANTINE, TELEMETRY
from thalweg.sync.delta.data_files import settle, write_files
from thalweg.sync.tables.latest import latest
from thalweg.sync.tables.latest_tables import KINDS, by_kind

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# A task writes a file whenever it holds so many rows: about 200 MB of memory, a file of 15-60 MB.
ROWS_PER_FILE: Final = 1_000_000

PARTS: Final = "files binary, refused binary, quarantine binary, node binary, link binary, price binary, rows bigint"
"""Spark schema of what a task returns, one row each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadWork:
    """What a task needs to know; it travels to the executors."""

    table_uri: str
    rules: tuple[FieldRule, ...]
    topic_prefix: str
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadResult:
    """What all tasks together have done."""

    files: list[AddAction]
    rows: int
    refused: tuple[RefusedRecord, ...]
    quarantine: pa.Table
    latest: dict[str, pa.Table]
    """Latest sample per key, by kind."""


def take_in_spread(batch: "DataFrame", work: SpreadWork) -> SpreadResult:
    """Take in a micro-batch by Spark tasks; the files are written and not yet committed.

    Args:
        batch: by the schema `streams.broker.range_reader.SCHEMA`.
        work: what the tasks need.
    """

    def part(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # A task makes millions of objects and no cycles; looking for cycles meanwhile takes a third as long again.
        gc.disable()
        try:
            yield take_in_part(batches, work)
        finally:
            gc.enable()

    parts = batch.mapInArrow(part, PARTS).toArrow().to_pylist()
    return SpreadResult(
        files=[AddAction(**action) for row in parts for action in msgspec.json.decode(row["files"])],
        rows=sum(row["rows"] for row in parts),
        refused=tuple(
            record for row in parts for record in msgspec.msgpack.decode(row["refused"], type=list[RefusedRecord])
        ),
        quarantine=pa.concat_tables([QUARANTINE.schema.empty_table(), *_tables(row["quarantine"] for row in parts)]),
        latest={
            kind: latest(tables, contract.key)
            for kind, contract in KINDS.items()
            if (tables := _tables(row[kind] for row in parts))
        },
    )


def take_in_part(batches: Iterable[pa.RecordBatch], work: SpreadWork) -> pa.RecordBatch:
    """Take in one Spark task's records and write its files; runs in an executor."""
    files: list[AddAction] = []
    refused: list[RefusedRecord] = []
    quarantine: list[pa.Table] = []
    newest: dict[str, list[pa.Table]] = {kind: [] for kind in KINDS}
    unwritten: list[pa.Table] = []
    rows = 0
    for batch in batches:
        intake = take_in(to_records(pa.Table.from_batches([batch])), work.rules, work.topic_prefix)
        refused += intake.refused
        if intake.quarantine.num_rows:
            quarantine.append(intake.quarantine)
        for kind, samples in by_kind(intake.history).items():
            newest[kind] = [latest([*newest[kind], samples], KINDS[kind].key)]
        unwritten.append(intake.history)
        rows += intake.history.num_rows
        if sum(table.num_rows for table in unwritten) >= ROWS_PER_FILE:
            files += _write(unwritten, work)
            unwritten = []
    files += _write(unwritten, work)
    result = {
        "files": msgspec.json.encode(files),
        "refused": msgspec.msgpack.encode(refused),
        "quarantine": _bytes(quarantine),
        **{kind: _bytes(tables) for kind, tables in newest.items()},
        "rows": rows,
    }
    return pa.RecordBatch.from_pylist([result], schema=_PART_SCHEMA)


_PART_SCHEMA: Final = pa.schema(
    [
        *((name, pa.binary()) for name in ("files", "refused", "quarantine", *KINDS)),
        ("rows", pa.int64()),
    ]
)


def _write(tables: Sequence[pa.Table], work: SpreadWork) -> list[AddAction]:
    rows = pa.concat_tables([TELEMETRY.schema.empty_table(), *tables])
    if rows.num_rows == 0:
        return []
    files = write_files(work.table_uri, rows, TELEMETRY, work.now_ms)
    settle(work.table_uri, [file.path for file in files])
    return files


def _bytes(tables: Sequence[pa.Table]) -> bytes | None:
    if not tables:
        return None
    rows = pa.concat_tables(tables)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return bytes(sink.getvalue())


def _tables(parts: Iterable[bytes | None]) -> list[pa.Table]:
    return [pa.ipc.open_stream(part).read_all() for part in parts if part is not None]
