"""Parquet files and the commits that make them part of a Delta table: the two halves of an append, apart.

Whoever holds the rows writes the file, the driver in a small micro-batch or many Spark tasks in a large one; the one
writer of the table then commits what was written, a few kilobytes whatever the number of rows.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from thalweg.sync.delta.contracts import TableContract
from thalweg.sync.delta.durable import make_folder, sync_together
from thalweg.sync.delta.file_bounds import bounds_of

COMPRESSION: Final = "zstd"
COMPRESSION_LEVEL: Final = 1  # files of a second's rows are rewritten by compaction anyway


def folder_of(table_uri: str) -> tuple[pafs.FileSystem, str]:
    """File system and path of a table."""
    if "://" not in table_uri:
        return pafs.LocalFileSystem(), table_uri
    return _stored(table_uri)


@lru_cache(maxsize=64)
def _stored(table_uri: str) -> tuple[pafs.FileSystem, str]:
    # Kept: opening a store asks it for its region.
    if table_uri.startswith("s3://"):  # an object of one part is put when it is closed, not uploaded in three steps
        table_uri += ("&" if "?" in table_uri else "?") + "allow_delayed_open=true"
    filesystem, path = pafs.FileSystem.from_uri(table_uri)
    return filesystem, str(path)


def conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give rows a table's types; columns that an older version of it lacks are null."""
    columns = [
        rows[field.name].cast(field.type) if field.name in rows.column_names else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def settle(table_uri: str, paths: Sequence[str]) -> None:
    """Wait until files of a local table are on the disk, names and all. On an object store they are.

    Args:
        table_uri: the table's address.
        paths: relative to it.

    Raises:
        FileNotFoundError: one is not there.
    """
    if "://" in table_uri:
        return
    sync_together(Path(table_uri) / path for path in paths)


def write_files(table_uri: str, rows: pa.Table, contract: TableContract, modified_ms: int) -> list[AddAction]:
    """Write rows as one Parquet file per partition; they belong to the table once the actions are committed.

    The commit waits until they are on the disk; whoever writes large ones beside it settles them before.

    Args:
        table_uri: the table's address.
        rows: with the table's schema.
        contract: the table's; partition columns go into the path instead of the file.
        modified_ms: recorded as the files' time.

    Raises:
        OSError: a file cannot be written; nothing of it is left behind.
    """
    filesystem, folder = folder_of(table_uri)
    actions: list[AddAction] = []
    for values, part in _partitions(rows, contract.partition_by):
        subfolder = "/".join(f"{column}={value}" for column, value in values.items())
        path = f"{subfolder}/part-{uuid.uuid4().hex}.parquet".lstrip("/")
        if "://" not in table_uri:  # a store has no folders
            make_folder(Path(folder) / subfolder)
        target = f"{folder}/{path}"
        try:
            with filesystem.open_output_stream(target) as file:
                pq.write_table(part, file, compression=COMPRESSION, compression_level=COMPRESSION_LEVEL)
                size = file.tell()
        except BaseException:
            _remove(filesystem, [target, *(f"{folder}/{action.path}" for action in actions)])
            raise
        actions.append(
            AddAction(
                path=path,
                size=size,
                partition_values=values,
                modification_time=modified_ms,
                data_change=True,
                stats=bounds_of(part, contract.bounded).to_json(),
            )
        )
    return actions


def remove_files(table_uri: str, paths: Iterable[str]) -> None:
    """Delete files that no commit names, relative to the table; one that cannot be deleted is left for the sweep."""
    filesystem, folder = folder_of(table_uri)
    _remove(filesystem, [f"{folder}/{path}" for path in paths])


def _remove(filesystem: pafs.FileSystem, paths: Sequence[str]) -> None:
    for path in paths:
        try:
            filesystem.delete_file(path)
        except OSError:
            continue  # never made, or vacuum's business


def _partitions(rows: pa.Table, partition_by: Sequence[str]) -> Iterator[tuple[Mapping[str, str], pa.Table]]:
    if not partition_by:
        yield {}, rows
        return
    # On this thread: a commit does not wait for the shared pool, which may be busy with somebody's file.
    groups = rows.select(list(partition_by)).group_by(list(partition_by), use_threads=False).aggregate([]).to_pylist()
    for group in groups:
        part = rows
        if len(groups) > 1:
            mask = True
            for column, value in group.items():
                mask = pc.and_(mask, pc.equal(rows[column], pa.scalar(value, rows.schema.field(column).type)))
            part = rows.filter(mask)
        yield {column: str(value) for column, value in group.items()}, part.drop_columns(list(partition_by))
