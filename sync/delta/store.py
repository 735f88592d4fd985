"""Delta tables from the driver, without a JVM: create, open, append under an application transaction, read.

Small commits go through the `deltalake` package (8-25 ms an append). Every append here commits at exactly the version
after the one this process has seen: a second writer makes it fail instead of interleaving, which is what fences a
driver that lost its lease.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from thalweg.scheduling.counted import counted
from thalweg.sync.delta.contracts import TableContract
from thalweg.sync.delta.damage_remedy import NEWEST_ENTRY, is_newest_entry
from thalweg.sync.delta.durable import make_folder, sync_log

if TYPE_CHECKING:
    import pyarrow as pa


class StoreError(Exception):
    """Base of what can go wrong with a table."""


class AnotherWriterError(StoreError):
    """The table moved on since this process read it: somebody else writes to it."""

    def __init__(self, table: str, seen_version: int) -> None:
        super().__init__(
            f"table {table!r}: version {seen_version + 1} was committed by another writer; allowed is one writer per "
            "table. Stop this process, or the other one, and start again"
        )
        self.table = table
        self.seen_version = seen_version


class TableRefusedError(StoreError):
    """The table asks for something that we do not do, so nothing is written to it."""

    def __init__(self, table: str, seen: str, remedy: str) -> None:
        super().__init__(f"table {table!r}: {seen}. {remedy}")
        self.table = table


class RearrangedError(StoreError):
    """Housekeeping by somebody else has put the rows of these files into others; read the table, and do it again."""

    def __init__(self, table: str, paths: Collection[str]) -> None:
        gone = counted(len(paths), "file to be replaced is", "files to be replaced are")
        super().__init__(f"table {table!r}: {gone} no part of it any more")
        self.paths = frozenset(paths)


class DamagedTableError(StoreError):
    """A file of the table is not what its log says, or the log itself cannot be read."""

    def __init__(self, path: str, seen: str) -> None:
        remedy = (
            f"{NEWEST_ENTRY}. If that does not help, restore the table's folder from a backup"
            if is_newest_entry(path)
            else "Restore the table's folder from a backup. To go on without what this commit held, stop the jobs and "
            "move the file away (of a data file, the log entry that names it); what it held comes again only where a "
            "topic still has it"
        )
        super().__init__(
            f"{path} {seen}: the machine lost power before it was on the disk, or somebody changed the file. {remedy}"
        )
        self.path = path
        self.seen = seen


def table_uri(warehouse: str, name: str) -> str:
    """Address of a table in a warehouse (a folder or an object-store URI)."""
    return f"{warehouse.rstrip('/')}/{name}"


def address_of(table: DeltaTable) -> str:
    """Address of an open table, as it was opened: a local folder's plain path, where Delta has a URL with escapes."""
    uri = table.table_uri.rstrip("/")
    return unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri


def open_or_create(contract: TableContract, warehouse: str) -> DeltaTable:
    """Open a table, or create it empty by its contract. Safe to call from several processes at once."""
    uri = table_uri(warehouse, contract.name)
    try:
        return DeltaTable(uri)
    except TableNotFoundError:
        if "://" not in uri:
            make_folder(Path(uri))
        table = DeltaTable.create(
            uri,
            schema=contract.columns,
            mode="ignore",
            partition_by=list(contract.partition_by) or None,
            name=contract.name,
            description=contract.meaning,
            configuration=dict(contract.properties),
            raise_if_key_not_exists=False,  # a property of ours may be among them
        )
        if "://" not in uri:
            sync_log(Path(uri))
        return table


def with_columns(table: DeltaTable, contract: TableContract) -> DeltaTable:
    """Add the columns that a table of an older version lacks; its rows read as null there. For the table's writer."""
    known = {field.name for field in table.schema().fields}
    wanted = Schema.from_arrow(contract.columns).fields
    missing = [field for field in wanted if field.name not in known and field.nullable]
    if missing:
        table.alter.add_columns(missing)
        if "://" not in address_of(table):
            sync_log(Path(address_of(table)))
    return table


def append(table: DeltaTable, rows: "pa.Table", transactions: Sequence[Transaction] = ()) -> int:
    """Append rows as one commit at exactly the next version and return that version.

    Args:
        table: as last seen by this process; it is moved forward to the new version.
        rows: with the table's schema.
        transactions: application transactions (application id, version) recorded with the commit.

    Raises:
        AnotherWriterError: the next version exists already.
    """
    seen = table.version()
    try:
        write_deltalake(
            table,
            rows,
            mode="append",
            commit_properties=CommitProperties(app_transactions=list(transactions), max_commit_retries=0),
        )
    except CommitFailedError as error:
        raise AnotherWriterError(table.table_uri, seen) from error
    return table.version()
