"""Snapshots: all records at one position in one compressed file, for a region that joins late.

Without one a new region reads the whole replica topic. With one it loads the file and reads on from its position; the
two overlap harmlessly, because merging a state again changes nothing.
"""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from deltalake import DeltaTable, QueryBuilder

from thalweg.sync.centre.centre import ReplicaSnapshot
from thalweg.sync.delta.contracts import RECORDS, SYNC_REGIONS
from thalweg.sync.delta.store import table_uri
from thalweg.sync.protocol.records import decode_record
from thalweg.sync.protocol.stamps import ZERO
from thalweg.sync.tables.centre_row import CENTRE_ROW, CentreRow

# The broker keeps the news that a key was forgotten for a day; an older snapshot could bring such a key back.
OLDEST: Final = timedelta(hours=12)


class ReplicaSnapshotError(Exception):
    """The snapshot cannot be made or used."""


class SnapshotFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds."""

    made_at: datetime
    topic_prefix: str
    snapshot: ReplicaSnapshot


def take_snapshot(warehouse: str) -> ReplicaSnapshot:
    """Read a snapshot from the tables.

    Raises:
        SnapshotError: The replicate job has not written them yet.
    """
    # The position first: records read after it are as new or newer, and newer ones are merged once more.
    found = _columns(warehouse, SYNC_REGIONS.name, "image, position", where=f"region = '{CENTRE_ROW}'")
    if not found["position"]:
        raise ReplicaSnapshotError(
            f"warehouse {warehouse} has no row {CENTRE_ROW} in sync_regions: start jobs/replicate first"
        )
    (image,), (position,) = found["image"], found["position"]
    records = tuple(map(decode_record, _columns(warehouse, RECORDS.name, "state")["state"]))
    through = msgspec.json.decode(image, type=CentreRow).forgotten_through
    clock = max((through, *(record.at for record in records)), default=ZERO)
    return ReplicaSnapshot(records=records, position=position, clock=clock)


def _columns(warehouse: str, table: str, names: str, where: str = "true") -> dict[str, list[Any]]:
    session = QueryBuilder().register(table, DeltaTable(table_uri(warehouse, table)))
    rows = session.execute(f"SELECT {names} FROM {table} WHERE {where}").read_all()
    return {name: list(column.to_pylist()) for name, column in zip(rows.column_names, rows.columns, strict=True)}


def write_snapshot(path: Path, snapshot: ReplicaSnapshot, topic_prefix: str, now: datetime) -> int:
    """Write a snapshot and return its size in bytes."""
    content = SnapshotFile(made_at=now.astimezone(UTC), topic_prefix=topic_prefix, snapshot=snapshot)
    path.write_bytes(gzip.compress(msgspec.json.encode(content), 6))
    return path.stat().st_size


def read_snapshot(path: Path, topic_prefix: str, now: datetime) -> ReplicaSnapshot:
    """Read a snapshot that may be used now.

    Raises:
        SnapshotError: It is none, of another installation, or too old.
    """
    try:
        content = msgspec.json.decode(gzip.decompress(path.read_bytes()), type=SnapshotFile)
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise ReplicaSnapshotError(f"snapshot {path} cannot be read: {error}") from error
    if content.topic_prefix != topic_prefix:
        raise ReplicaSnapshotError(
            f"snapshot {path} is of {content.topic_prefix!r}, this installation is {topic_prefix!r}"
        )
    if now - content.made_at > OLDEST:
        raise ReplicaSnapshotError(
            f"snapshot {path} was made at {content.made_at:%Y-%m-%d %H:%M}; allowed are {OLDEST}. Make a new one"
        )
    return content.snapshot
