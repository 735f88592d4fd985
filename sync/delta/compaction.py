"""Compact an append-only table beside its writer: many small files into one, without a pause of the stream.

The work is done in two halves. The rewriting, which takes seconds, happens beside the writer, a few files at a time
with pauses, so that it never takes a core for long. The commit, which takes milliseconds, is handed to the writer's own
thread: a table has one writer, and a second one would make its next append fail.
"""

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction, RemoveAction

from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import TableContract
from thalweg.sync.delta.data_files import COMPRESSION, COMPRESSION_LEVEL, conformed, folder_of, settle
from thalweg.sync.delta.file_bounds import FileBounds, bounds_of, merged
from thalweg.sync.delta.store import RearrangedError

# A file this large is read in one go at disk speed; merging it again would only cost.
LARGE_BYTES: Final = 32 * 1_048_576
# Fewer small files are not worth a rewrite: a reader opens this many in tens of milliseconds.
FEW_FILES: Final = 32
ALIKE: Final = 6
"""Files are alike that differ by no more than this: minutes of a quiet and of a busy hour do, a minute and what half an
hour's were merged to do not."""
MOST_RUNS: Final = 4
"""With more small files than so many times the few, all are merged."""
# So many rows become one row group: large enough for readers, and one step short enough (tens of milliseconds) that
# the stream beside does not feel it.
_ROWS_PER_STEP: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallFile:
    """A data file of the table's current version."""

    path: str
    size_bytes: int
    partition_values: tuple[tuple[str, str], ...]
    bounds: FileBounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """Files to be swapped by one commit: the same rows before and after."""

    removed: tuple[RemoveAction, ...]
    added: AddAction

    @property
    def actions(self) -> list[AddAction | RemoveAction]:
        """What the commit holds."""
        return [*self.removed, self.added]


def files_of(table: DeltaTable) -> list[SmallFile]:
    """List the data files of the table's version, oldest first."""
    actions = pa.table(table.get_add_actions(flatten=False))
    rows = actions.sort_by("modification_time").to_pylist()
    return [
        SmallFile(
            path=row["path"],
            size_bytes=row["size_bytes"],
            partition_values=tuple((name, str(value)) for name, value in (row.get("partition") or {}).items()),
            bounds=FileBounds(
                rows=row["num_records"] or 0,
                lowest=_present(row.get("min")),
                highest=_present(row.get("max")),
                nulls=_present(row.get("null_count")),
            ),
        )
        for row in rows
    ]


def _present(values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (values or {}).items() if value is not None}


def groups_to_merge(
    files: Sequence[SmallFile],
    contract: TableContract,
    *,
    large_bytes: int = LARGE_BYTES,
    few_files: int = FEW_FILES,
) -> list[list[SmallFile]]:
    """Choose what to merge: the small files of a partition and an age, where there are more than a few. Pure.

    Rows expire by whole files. Merged with ever newer ones they would never be old enough, so only files of one tenth
    of the retention are merged: rows go at most that much later than they may.

    Args:
        files: oldest first; a group keeps their order.
        contract: the table's.
        large_bytes: files at least this large are left alone.
        few_files: fewer than this are left alone.
    """
    groups: dict[object, list[SmallFile]] = {}
    for file in files:
        if file.size_bytes < large_bytes:
            groups.setdefault((file.partition_values, _age(file, contract)), []).append(file)
    return [group for group in groups.values() if len(group) >= few_files]


def runs_to_merge(
    files: Sequence[SmallFile], *, large_bytes: int = LARGE_BYTES, few_files: int = FEW_FILES
) -> list[list[SmallFile]]:
    """Choose what to merge once more of files that compaction has made: runs of neighbours that are alike. Pure.

    Merging everything small each time would write the rows of the oldest of them again and again, and what was replaced
    is kept for a day. In runs of files that are alike a row is written once for each step in size, as in a
    log-structured merge tree (O'Neil and others, 1996). Where sizes go up and down so that nothing is alike, all are
    merged before they become too many: there are never more than a hundred or so.

    Args:
        files: oldest first, without those that are still to be merged for the first time.
        large_bytes: files at least this large are left alone.
        few_files: shorter runs are left alone.
    """
    runs: list[list[SmallFile]] = []
    for file in files:
        if file.size_bytes >= large_bytes:
            runs.append([])  # neighbours only: files that overlap are read together
        elif runs and runs[-1] and _is_alike(file, runs[-1]):
            runs[-1].append(file)
        else:
            runs.append([file])
    if sum(map(len, runs)) > MOST_RUNS * few_files:
        runs = [[file for file in files if file.size_bytes < large_bytes]]
    return [run for run in runs if len(run) >= few_files]


def _is_alike(file: SmallFile, run: Sequence[SmallFile]) -> bool:
    mean = sum(one.size_bytes for one in run) / len(run)
    return mean / ALIKE <= file.size_bytes <= mean * ALIKE


def _age(file: SmallFile, contract: TableContract) -> int | None:
    """Number the tenth of the retention that a file's newest row lies in; None where partitions or nothing say it."""
    newest = file.bounds.highest.get(contract.ages_by) if contract.ages_by else None
    if contract.retention_days is None or not isinstance(newest, datetime):
        return None
    return int(newest.timestamp() // (contract.retention_days * 86_400 / 10))


def merge_once_more(
    table: Appender,
    fresh: Collection[str],
    now_ms: int,
    pause: Callable[[], bool],
    swap: Callable[[Rewrite], None],
) -> int:
    """Merge runs of files that are alike (`runs_to_merge`); return how many files were replaced.

    Args:
        table: the table's writer.
        fresh: paths of files that are left alone: they are still to be merged for the first time, or may change.
        now_ms: recorded as the time of the change.
        pause: called between steps; True means stop.
        swap: commits a rewrite.
    """
    files = [file for file in files_of(DeltaTable(table.uri)) if file.path not in fresh]
    replaced = 0
    for run in runs_to_merge(files):
        made = rewrite(table, run, now_ms, pause)
        if made is None:
            break
        try:
            swap(made)
        except RearrangedError:  # somebody else has merged some of them: what is left is looked at next time
            table.abandon(made.actions)
            break
        replaced += len(run)
    return replaced


def rewrite(table: Appender, group: Sequence[SmallFile], now_ms: int, pause: Callable[[], bool]) -> Rewrite | None:
    """Write one file with the rows of a group, in their order. Nothing changes in the table before the commit.

    Args:
        table: the table's writer, who may be at work meanwhile.
        group: files of one partition.
        now_ms: recorded as the time of the change.
        pause: called between steps; True means stop, and then None is returned and nothing is left behind.

    Raises:
        OSError: a file cannot be read or written; nothing is left behind.
    """
    filesystem, folder = folder_of(table.uri)
    subfolder = "".join(f"{name}={value}/" for name, value in group[0].partition_values)
    path = f"{subfolder}part-{uuid.uuid4().hex}.parquet"
    target = f"{folder}/{path}"
    sources = [f"{folder}/{file.path}" for file in group]
    schema = _widest(table.contract, [pq.read_schema(source, filesystem=filesystem) for source in sources])
    complete = False
    bounds: list[FileBounds] = []
    table.pending.add([path])  # before it is there: no sweep may take it for a leftover
    writer = pq.ParquetWriter(
        target, schema, filesystem=filesystem, compression=COMPRESSION, compression_level=COMPRESSION_LEVEL
    )
    try:
        for step in _steps(_row_groups(filesystem, sources, schema)):
            writer.write_table(step)
            bounds.append(bounds_of(step, table.contract.bounded))
            if pause():
                return None
        complete = True
    finally:
        try:
            writer.close()
        finally:
            if not complete:
                filesystem.delete_file(target)
                table.pending.discard([path])
    settle(table.uri, [path])
    return Rewrite(
        removed=tuple(
            RemoveAction(file.path, False, now_ms, file.size_bytes, dict(file.partition_values)) for file in group
        ),
        added=AddAction(
            path=path,
            size=filesystem.get_file_info(target).size,
            partition_values=dict(group[0].partition_values),
            modification_time=now_ms,
            data_change=False,
            stats=merged(bounds).to_json(),
        ),
    )


def _widest(contract: TableContract, found: Sequence[pa.Schema]) -> pa.Schema:
    """Give the columns of all files: those of the contract, and those that somebody else has added."""
    fields = {field.name: field for schema in found for field in schema}
    fields |= {field.name: field for field in contract.schema if field.name not in contract.partition_by}
    return pa.schema(fields.values())


def _row_groups(filesystem: pafs.FileSystem, paths: Sequence[str], schema: pa.Schema) -> Iterator[pa.Table]:
    """Read the files' rows in order, one row group after the other.

    On one thread, the other core is the stream's, and not through Arrow's datasets: they decode in the pool of threads
    that the whole process shares, and a file of millions of rows would keep everybody else waiting for seconds.
    """
    for path in paths:
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            for number in range(file.num_row_groups):
                yield conformed(file.read_row_group(number, use_threads=False), schema)


def _steps(row_groups: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Put row groups together until a step is full."""
    step: list[pa.Table] = []
    for rows in row_groups:
        step.append(rows)
        if sum(part.num_rows for part in step) >= _ROWS_PER_STEP:
            yield pa.concat_tables(step)
            step = []
    if step:
        yield pa.concat_tables(step)
