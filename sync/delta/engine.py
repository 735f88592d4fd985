"""Ask the query engine for rows of a table: what it cannot read has a name here.

`deltalake` raises `DeltaError` for a statement it does not understand, and a bare `Exception` for a file it cannot
read. The second is the world outside, like any other file that is not there: an older version's files are swept, a
backup holds those of the newest alone, a disk fails.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from thalweg.sync.delta.store import StoreError, address_of

_LAYERS: Final = re.compile(r"^(?:\w+ error: )+")
_MISSING: Final = re.compile(r"Object at location (.+?) not found")


class UnreadableTableError(StoreError, OSError):
    """A file that a version of a table names is missing, or is not what it should be."""

    def __init__(self, table: DeltaTable, error: Exception) -> None:
        missing = _MISSING.search(str(error))
        seen = f"{missing[1]} is missing" if missing else _LAYERS.sub("", str(error))
        name = address_of(table).rpartition("/")[2]
        super().__init__(
            f"table {name!r}: version {table.version()} cannot be read: {seen}. `thalweg doctor` tells whether the "
            "table is damaged"
        )


def select(table: DeltaTable, name: str, statement: str) -> pa.Table:
    """Answer a statement over a table.

    Args:
        table: as the version that it was opened at.
        name: of it in the statement.
        statement: DataFusion's SQL.

    Raises:
        UnreadableTableError: a file of this version cannot be read.
    """
    with _named(table):
        return pa.table(QueryBuilder().register(name, table).execute(statement).read_all())


def select_batches(table: DeltaTable, name: str, statement: str) -> Iterator[pa.Table]:
    """Answer as `select`, piece by piece: for what does not fit into memory."""
    with _named(table):
        for batch in QueryBuilder().register(name, table).execute(statement):
            yield pa.table(batch)


@contextmanager
def _named(table: DeltaTable) -> Iterator[None]:
    """Give a name to what the engine raises without one while rows of a table are taken from it."""
    try:
        yield
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise UnreadableTableError(table, error) from error
