"""The snapshot: what the ledger's rows up to a mark have made of the world, in a file of its own beside the tables.

It saves a restart the reading of the whole ledger, and is nothing else: whoever finds it missing, damaged, of another
ledger, ahead of the ledger, or of a format that is not known, reads the ledger from the beginning. Anybody may write
it at any time, also a driver that was overtaken: it says for which rows it stands, and they are compared.

The file: a line that names the format, the length of a JSON header, the header, the image's sections as Arrow streams
one after another, and a digest of all that.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from thalweg.scheduling.counted import counted
from thalweg.scheduling.pack.nodes import Pool
from thalweg.scheduling.world.ended import EndedColumns
from thalweg.scheduling.world.image import (
    CopyImage,
    EndImage,
    NodeImage,
    RefusalImage,
    ShareImage,
    TaskImage,
    WorldImage,
)
from thalweg.scheduling.world.occupancy import DERIVED, OccupancyRow
from thalweg.sync.delta.data_files import folder_of
from thalweg.sync.delta.durable import make_folder, sync_file, sync_folder
from thalweg.sync.ledger.reading import LedgerVersion, Position, is_of_batch

FILE_NAME: Final = "place.snapshot"
FORMAT: Final = 4
"""Of what this version writes; it reads this one and all before it."""

_FIRST_LINE: Final = b"thalweg snapshot of the world, format "
_LENGTH_BYTES: Final = 8
_ABANDONED_S: Final = 3_600.0
"""Nobody writes for so long."""
_DIGEST_BYTES: Final = 32


class SnapshotError(Exception):
    """The snapshot cannot be used; the message says why."""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """For which rows of which ledger a snapshot stands."""

    ledger_id: str
    version: int
    """Of the ledger's table when it was read."""
    rows: int
    """How many there were."""
    position: Position
    """Of the last of them."""
    last_batch: str
    """Digest of the last batch's rows: a ledger that was put back from a copy goes on with other ones."""
    reach: dict[str, dict[int, int]]
    """By topic and partition, the furthest request taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An image of the world, and what it stands for."""

    mark: Mark
    image: WorldImage


class _Header(msgspec.Struct, kw_only=True):
    mark: Mark
    order: int
    sections: list[tuple[str, int]]
    """Name and length in bytes."""


_INDEX: Final = pa.int32()
_TEXT: Final = pa.large_string()
_NAMES: Final = pa.list_(pa.string())
_SECTIONS: Final[dict[str, pa.Schema]] = {
    "expected": pa.schema([("region", pa.string())]),
    "names": pa.schema([("region", pa.string())]),
    "closed": pa.schema([("region", pa.string())]),
    "damped": pa.schema([("region", pa.string())]),
    "pools": pa.schema([("region", pa.string()), ("gpu_model", pa.string()), ("spot", pa.bool_())]),
    "nodes": pa.schema([("key", pa.string()), ("pool", _INDEX)]),
    "specs": pa.schema([("request", _TEXT)]),
    "tasks": pa.schema(
        [
            ("task_id", pa.string()),
            ("spec", _INDEX),
            ("request", _TEXT),
            ("content_hash", pa.string()),
            ("submitted_ms", pa.int64()),
            ("order", pa.int64()),
            ("state", pa.string()),
            ("epoch", pa.int64()),
            ("attempt", pa.int32()),
            ("preempted", pa.int32()),
            ("done_copies", pa.list_(pa.int32())),
            ("done_regions", _NAMES),
            ("avoid", _NAMES),
            ("barred", _NAMES),
            ("reason", _TEXT),
            ("held", pa.bool_()),
            ("unmet", _NAMES),
            ("shut_until_ms", pa.int64()),
            ("causes", _NAMES),
            ("shut_since_ms", pa.int64()),
        ]
    ),
    "copies": pa.schema(
        [
            ("task", _INDEX),
            ("number", pa.int32()),
            ("epoch", pa.int64()),
            ("region", pa.string()),
            ("pool_id", pa.string()),
            ("state", pa.string()),
            ("assigned_ms", pa.int64()),
            ("by_hand", pa.bool_()),
        ]
    ),
    "shares": pa.schema(
        [
            ("copy", _INDEX),
            ("node", _INDEX),
            ("workers", pa.int32()),
            ("gpus", pa.int32()),
            ("gpu_milli", pa.int32()),
            ("devices", pa.list_(pa.int32())),
        ]
    ),
    "occupancy": pa.schema([(name, pa.int64()) for at, name in enumerate(OccupancyRow._fields) if at != DERIVED]),
    "refusals": pa.schema(
        [
            ("task", _INDEX),
            ("region", pa.string()),
            ("times", pa.int64()),
            ("last_ms", pa.int64()),
            ("until_ms", pa.int64()),
        ]
    ),
    "ends": pa.schema(
        [("until_ms", pa.int64()), ("region", pa.string()), ("task_id", pa.string()), ("began_ms", pa.int64())]
    ),
    "waiting": pa.schema([("task", _INDEX)]),
    "orders": pa.schema([("row", _TEXT)]),
    "ended": pa.schema(
        [
            ("id_high", pa.uint64()),
            ("id_low", pa.uint64()),
            ("content_high", pa.uint64()),
            ("content_low", pa.uint64()),
            ("epoch", pa.int64()),
            ("state", pa.uint8()),
        ]
    ),
}


def digest_of_batch(rows: pa.Table) -> str:
    """Tell one batch's rows from any others."""
    names = ("query_id", "batch_id", "driver_epoch", "row", "task_id", "copy", "epoch", "transition")
    decided = rows.column("decided_at").cast(pa.int64())
    columns = [*(rows.column(name).to_pylist() for name in names), decided.to_pylist()]
    return blake2b(repr(sorted(zip(*columns, strict=True), key=repr)).encode(), digest_size=16).hexdigest()


def rows_since(mark: Mark, ledger: LedgerVersion) -> tuple[pa.Table, pa.Table]:
    """Rows of the last batch for which a snapshot stands, and those for which it does not, in order.

    Raises:
        SnapshotError: the snapshot is of another ledger, or of another history of this one.
    """
    if mark.ledger_id != ledger.ledger_id:
        raise SnapshotError(f"it is of ledger {mark.ledger_id}, here is {ledger.ledger_id}")
    if mark.version > ledger.version:
        raise SnapshotError(f"it stands for version {mark.version} of the ledger, which is at {ledger.version}")
    rows = ledger.rows_from(mark.position)
    of_last = is_of_batch(rows, mark.position)
    last = rows.filter(of_last)
    tail = rows.slice(last.num_rows)
    before = ledger.count() - tail.num_rows
    if before != mark.rows:
        raise SnapshotError(f"it stands for {counted(mark.rows, 'row')}, where the ledger has {before:,}")
    if digest_of_batch(last) != mark.last_batch:
        raise SnapshotError(f"its last batch, {mark.position.batch_id}, is another one in the ledger")
    return last, tail


def write_snapshot(warehouse: str, snapshot: Snapshot) -> int:
    """Put a snapshot in the place of the last one, at once or not at all; return its size in bytes.

    Raises:
        OSError: the disk does not take it; the last one stays.
    """
    content = encode_snapshot(snapshot)
    filesystem, folder = folder_of(warehouse.rstrip("/"))
    if "://" in warehouse:
        with filesystem.open_output_stream(f"{folder}/{FILE_NAME}") as stream:  # there when it is closed
            stream.write(content)
        return len(content)
    make_folder(Path(folder))
    path = Path(folder) / FILE_NAME
    fresh = path.with_name(f"{FILE_NAME}.{os.getpid()}.new")
    try:
        fresh.write_bytes(content)
        sync_file(fresh)
        _clear_away(path, fresh.stat().st_mtime - _ABANDONED_S)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(folder)
    return len(content)


def _clear_away(path: Path, before_s: float) -> None:
    """Delete what others began to write before a moment and were killed over."""
    for other in path.parent.glob(f"{path.name}.*.new"):
        with suppress(FileNotFoundError):
            if other.stat().st_mtime < before_s:
                other.unlink()


def read_snapshot(warehouse: str) -> Snapshot:
    """Read the snapshot of a warehouse.

    Raises:
        SnapshotError: there is none, or it cannot be read.
    """
    filesystem, folder = folder_of(warehouse.rstrip("/"))
    try:
        with filesystem.open_input_stream(f"{folder}/{FILE_NAME}") as stream:
            content = stream.read()
    except FileNotFoundError:
        raise SnapshotError("there is none") from None
    except OSError as error:
        raise SnapshotError(f"it cannot be read: {error}") from error
    return decode_snapshot(content)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Write a snapshot as the file holds it."""
    image = snapshot.image
    sections = [(name, _stream(schema, getattr(image, name))) for name, schema in _SECTIONS.items()]
    header = msgspec.json.encode(
        _Header(mark=snapshot.mark, order=image.order, sections=[(name, len(content)) for name, content in sections])
    )
    content = b"".join(
        [
            _FIRST_LINE + f"{FORMAT}\n".encode(),
            len(header).to_bytes(_LENGTH_BYTES),
            header,
            *(section for _, section in sections),
        ]
    )
    return content + blake2b(content, digest_size=_DIGEST_BYTES).digest()


def decode_snapshot(content: bytes) -> Snapshot:
    """Read what a file holds.

    Raises:
        SnapshotError: it is damaged, or of a format that this version does not know.
    """
    first, _, _ = content[:80].partition(b"\n")
    if not first.startswith(_FIRST_LINE):
        raise SnapshotError("it is damaged: it does not begin as a snapshot does")
    written = first.removeprefix(_FIRST_LINE).decode("ascii", "replace")
    if written not in map(str, range(1, FORMAT + 1)):
        raise SnapshotError(f"it is of format {written}; this version reads 1 to {FORMAT}")
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if blake2b(body, digest_size=_DIGEST_BYTES).digest() != digest:
        raise SnapshotError("it is damaged: its digest is another one")
    at = len(first) + 1
    length = int.from_bytes(body[at : at + _LENGTH_BYTES])
    at += _LENGTH_BYTES
    header = msgspec.json.decode(body[at : at + length], type=_Header)
    at += length
    tables: dict[str, pa.Table] = {}
    for name, size in header.sections:
        tables[name] = pa.ipc.open_stream(pa.py_buffer(body).slice(at, size)).read_all()
        at += size
    return Snapshot(mark=header.mark, image=_image(header.order, tables))


def _stream(schema: pa.Schema, rows: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(pa.table(_columns(schema, rows), schema=schema))
    return bytes(sink.getvalue().to_pybytes())


def _columns(schema: pa.Schema, rows: Any) -> list[pa.Array]:
    """Columns of a section: of one column they are the values themselves, of several rows of them."""
    values: Iterable[Any]
    if isinstance(rows, EndedColumns):
        values = rows
    elif isinstance(rows, np.ndarray):
        values = rows.T
    elif len(schema) == 1:
        values = [rows]
    elif rows and isinstance(rows[0], Pool):
        values = zip(*((pool.region, pool.gpu_model, pool.spot) for pool in rows), strict=True)
    else:
        values = zip(*rows, strict=True) if rows else [[]] * len(schema)
    return [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]


def _image(order: int, tables: dict[str, pa.Table]) -> WorldImage:
    def rows(name: str) -> Iterable[Any]:
        return zip(*(column.to_pylist() for column in tables[name].columns), strict=True)

    def values(name: str) -> list[Any]:
        return tables[name].column(0).to_pylist()  # type: ignore[no-any-return]

    return WorldImage(
        order=order,
        expected=values("expected"),
        names=values("names"),
        closed=values("closed"),
        damped=values("damped"),
        pools=[Pool(*row) for row in rows("pools")],
        nodes=[NodeImage(*row) for row in rows("nodes")],
        specs=values("specs"),
        tasks=[TaskImage(*row) for row in rows("tasks")],
        copies=[CopyImage(*row) for row in rows("copies")],
        shares=[ShareImage(*row) for row in rows("shares")],
        occupancy=np.stack([column.to_numpy() for column in tables["occupancy"].columns], axis=1),
        refusals=[RefusalImage(*row) for row in rows("refusals")],
        ends=[EndImage(*row) for row in rows("ends")],
        waiting=values("waiting"),
        ended=EndedColumns(*(column.combine_chunks().to_numpy() for column in tables["ended"].columns)),
        orders=values("orders") if "orders" in tables else [],  # formats 1 and 2 know of none
    )
