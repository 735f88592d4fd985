"""Read the ledger's rows in the order in which they were decided: all of them, or those after a position.

A ledger of years does not fit into memory. Its files know between which positions their rows lie, so they are read one
after another; only files that overlap (somebody's OPTIMIZE may have mixed them) are read together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.data_files import conformed, folder_of
from thalweg.sync.delta.engine import select
from thalweg.sync.delta.store import address_of
from thalweg.sync.delta.wide_text import wide_text

PIECE_ROWS: Final = 65_536
_ORDER: Final = [("driver_epoch", "ascending"), ("batch_id", "ascending"), ("row", "ascending")]
_LAST: Final = 2**62


class Position(NamedTuple):
    """Place of a row in the ledger. A driver's epoch rises with every start, so this order is the order of commits."""

    driver_epoch: int
    batch_id: int
    row: int


class _File(NamedTuple):
    """A data file, and between which (driver epoch, batch) its rows lie."""

    first: tuple[int, int]
    last: tuple[int, int]
    path: str


@dataclass(frozen=True, slots=True)
class LedgerVersion:
    """The ledger as one version of its table has it."""

    table: DeltaTable

    @property
    def ledger_id(self) -> str:
        """Tell this ledger from another at the same place."""
        return str(self.table.metadata().id)

    @property
    def version(self) -> int:
        """Of the table."""
        return int(self.table.version())

    def count(self) -> int:
        """Count the rows; asks the log, not the files."""
        counts = pa.table(self.table.get_add_actions(flatten=True)).column("num_records").to_pylist()
        if None in counts:
            return int(self._query("SELECT count(*) AS rows FROM ledger").column("rows")[0].as_py())
        return sum(counts)

    def all_rows(self) -> Iterator[pa.Table]:
        """Every row, in pieces."""
        filesystem, folder = folder_of(address_of(self.table))
        for files in _in_order(self._files()):
            # Not through a pyarrow dataset: deltalake 1.6 takes a column without statistics for one that holds nothing.
            read = [pq.read_table(f"{folder}/{f.path}", filesystem=filesystem, partitioning=None) for f in files]
            rows = pa.concat_tables([conformed(part, DECISIONS.schema) for part in read])
            yield from _pieces(rows)

    def rows_from(self, position: Position) -> pa.Table:
        """Rows of the batch at a position and of all after it, in order."""
        epoch, batch = position.driver_epoch, position.batch_id
        rows = self._query(
            f"SELECT * FROM ledger WHERE driver_epoch > {epoch} OR (driver_epoch = {epoch} AND batch_id >= {batch})"
        )
        return _sorted(conformed(rows, DECISIONS.schema))

    def rows_after(self, position: Position) -> pa.Table:
        """Rows after the batch at a position, in order."""
        rows = self.rows_from(position)
        return rows.filter(pc.invert(is_of_batch(rows, position)))

    def _query(self, statement: str) -> pa.Table:
        return select(self.table, "ledger", statement)

    def _files(self) -> list[_File]:
        files = []
        for action in pa.table(self.table.get_add_actions(flatten=True)).to_pylist():

            def bound(kind: str, without: int, action: dict[str, Any] = action) -> tuple[int, int]:
                found = [action.get(f"{kind}.{name}") for name in ("driver_epoch", "batch_id")]
                return tuple(without if value is None else value for value in found)  # type: ignore[return-value]

            files.append(_File(bound("min", -_LAST), bound("max", _LAST), action["path"]))
        return sorted(files)


def rows_of_ledger(uri: str) -> Iterator[pa.Table]:
    """Every row of a ledger, in the order it was decided."""
    return LedgerVersion(DeltaTable(uri)).all_rows()


def position_of_last(rows: pa.Table) -> Position:
    """Position of the last of some rows in order."""
    return Position(*(rows.column(name)[-1].as_py() for name in Position._fields))


def is_of_batch(rows: pa.Table, position: Position) -> pa.ChunkedArray:
    """Mask of the rows that lie in the batch of a position."""
    return pc.and_(
        pc.equal(rows.column("driver_epoch"), position.driver_epoch),
        pc.equal(rows.column("batch_id"), position.batch_id),
    )


def is_after_batch(rows: pa.Table, position: Position) -> pa.ChunkedArray:
    """Mask of the rows that lie behind the batch of a position."""
    epoch, batch = rows.column("driver_epoch"), rows.column("batch_id")
    return pc.or_(
        pc.greater(epoch, position.driver_epoch),
        pc.and_(pc.equal(epoch, position.driver_epoch), pc.greater(batch, position.batch_id)),
    )


def in_whole_batches(rows: pa.Table) -> Iterator[pa.Table]:
    """Cut rows, which are in order, into pieces of at least PIECE_ROWS that end where a batch ends."""
    keys = [rows.column(name).to_numpy() for name in ("driver_epoch", "batch_id")]
    begins = np.flatnonzero((keys[0][1:] != keys[0][:-1]) | (keys[1][1:] != keys[1][:-1])) + 1
    start = 0
    while start < rows.num_rows:
        ends = begins[begins >= start + PIECE_ROWS]
        end = int(ends[0]) if len(ends) else rows.num_rows
        yield rows.slice(start, end - start)
        start = end


def _in_order(files: Sequence[_File]) -> Iterator[list[_File]]:
    """Group files, sorted by where they begin, that overlap."""
    group: list[_File] = []
    reached = (-_LAST, -_LAST)
    for file in files:
        if group and file.first > reached:
            yield group
            group = []
        group.append(file)
        reached = max(reached, file.last)
    if group:
        yield group


def _sorted(rows: pa.Table) -> pa.Table:
    return conformed(wide_text(rows).sort_by(_ORDER), DECISIONS.schema)


def _pieces(rows: pa.Table) -> Iterator[pa.Table]:
    rows = wide_text(rows).sort_by(_ORDER)
    for start in range(0, rows.num_rows, PIECE_ROWS):
        yield conformed(rows.slice(start, PIECE_ROWS), DECISIONS.schema)
