"""The one writer's hold on a table: files and the commits that make them part of it, each at exactly the next version.

Batches are known by their application transactions; compaction is prepared beside the writer and committed here. A
writer goes on behind somebody else's housekeeping (`sync.delta.log_news`), and stops at another writer's commit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, Transaction
from deltalake.transaction import AddAction, RemoveAction

from thalweg.sync.clock import system_clock
from thalweg.sync.delta.commits import Entry, VersionTakenError, commit_for, is_taken
from thalweg.sync.delta.contracts import FORMER, TableContract
from thalweg.sync.delta.data_files import folder_of, remove_files, settle, write_files
from thalweg.sync.delta.file_bounds import bounds_of
from thalweg.sync.delta.log_entry import Action
from thalweg.sync.delta.log_news import judge, read_entry
from thalweg.sync.delta.pending import Pending
from thalweg.sync.delta.store import (
    AnotherWriterError,
    DamagedTableError,
    RearrangedError,
    TableRefusedError,
    address_of,
    open_or_create,
    table_uri,
    with_columns,
)
from thalweg.sync.delta.table_features import refused_feature, shape, stamps_commits
from thalweg.sync.delta.table_health import damage_of

_ATTEMPTS: Final = 20
"""Commits of others that may come between two of ours; more mean that the store answers with something old."""

_REMEMBERED: Final = 20_000
"""Files merged since something still waits that was prepared before: many more than one round of compaction takes."""


class Appender:
    """Writes one table, each commit at exactly the version after the last one seen. For one thread."""

    def __init__(self, contract: TableContract, warehouse: str) -> None:
        """Open the table, or create it by its contract.

        Args:
            contract: the table's; columns that a table of an older version lacks are added to it.
            warehouse: folder or URI.

        Raises:
            DamagedTableError: a file is not what the log says.
            TableRefusedError: the table uses a feature that we do not implement.
        """
        self.contract = contract
        for damage in damage_of(table_uri(warehouse, contract.name)):
            raise DamagedTableError(damage.path, damage.seen)
        table = open_or_create(contract, warehouse)
        self.uri = address_of(table)
        self._commit = commit_for(self.uri)
        self._obey(_protocol(table), _metadata(table))
        table = with_columns(table, contract)
        self._shape = shape(_metadata(table))
        self._done: dict[str, int] = {}
        self._attempted: set[str] = set()
        self._rearranged: set[str] = set()  # files that others have put elsewhere
        self._merged: dict[str, None] = {}  # files that we have, the last ones: a rewrite may be prepared twice
        self.pending = Pending(self.uri)
        """Files written and not committed: a sweep spares them."""
        self.version = table.version()
        self._declare_properties(table)

    def has_committed(self, transaction: Transaction) -> bool:
        """Tell whether this application transaction, or a later one, is in the table."""
        if transaction.app_id not in self._done:
            last = DeltaTable(self.uri).transaction_version(transaction.app_id)
            self._done[transaction.app_id] = -1 if last is None else last
        return self._done[transaction.app_id] >= transaction.version

    def refresh(self) -> None:
        """Read what is committed; needed after a commit whose outcome is unknown.

        Raises:
            AnotherWriterError: by somebody else.
        """
        self._catch_up()
        self._done.clear()

    def write(self, rows: pa.Table, now_ms: int) -> list[AddAction]:
        """Write files for rows; `commit` makes them part of the table. Any thread may.

        Raises:
            OSError: the disk does not take them; nothing is left behind.
        """
        files = write_files(self.uri, rows, self.contract, now_ms)
        self.pending.add(file.path for file in files)
        return files

    def abandon(self, files: Iterable[AddAction | RemoveAction]) -> None:
        """Delete written files that will not be committed after all."""
        paths = [file.path for file in files if isinstance(file, AddAction)]
        remove_files(self.uri, paths)
        self.pending.discard(paths)

    def commit(
        self, files: Sequence[AddAction | RemoveAction], *transactions: Transaction, purpose: str = "append"
    ) -> None:
        """Make files part of the table, at exactly the next version; it is on the disk when this returns.

        Args:
            files: added and removed.
            transactions: recorded with the commit.
            purpose: recorded with the commit, for people who read the log.

        Raises:
            AnotherWriterError: somebody else changed rows of the table, or claimed it, since this process read it.
            RearrangedError: somebody else's housekeeping has replaced a file that is to be removed.
            TableRefusedError: somebody else switched on a feature that we do not implement.
            OSError: the disk does not take it, or a file that waited for its commit is gone; nothing was committed.
        """
        added = [file.path for file in files if isinstance(file, AddAction)]
        removed = {file.path for file in files if isinstance(file, RemoveAction)}
        entry = Entry(files=files, transactions=transactions, purpose=purpose, partition_by=self.contract.partition_by)
        self._attempted.add(entry.commit_id)
        for _ in range(_ATTEMPTS):
            if gone := {path for path in removed if path in self._rearranged or path in self._merged}:
                raise RearrangedError(self.contract.name, gone)
            try:
                self._commit(self.uri, self.version + 1, replace(entry, stamped=self._stamped))
                self.version += 1
                break
            except VersionTakenError:
                if entry.commit_id in self._catch_up():
                    break  # it was made, only the answer was lost
        else:
            raise AnotherWriterError(self.contract.name, self.version)
        if removed and self.contract.append_only:
            self._merged = {**self._merged, **dict.fromkeys(removed)}
            for path in list(self._merged)[:-_REMEMBERED]:
                del self._merged[path]
        self._attempted.clear()
        self.pending.discard(added)
        self._done.update((mark.app_id, mark.version) for mark in transactions)

    def check(self) -> None:
        """Look whether somebody else has written to the table.

        Raises:
            AnotherWriterError: somebody else changed rows of the table, or claimed it, since this process read it.
        """
        if is_taken(self.uri, self.version + 1):
            self._catch_up()

    def _catch_up(self) -> set[str]:
        """See what others have committed, and which of our own commits went through without our knowing.

        Raises:
            AnotherWriterError: it is no housekeeping.
        """
        own: set[str] = set()
        newest = DeltaTable(self.uri).version()
        while self.version < newest:
            actions = read_entry(self.uri, self.version + 1)
            if actions is None:  # so long ago that the log was cleaned: nobody can say what it was
                raise AnotherWriterError(self.contract.name, self.version)
            news = judge(actions)
            if news.commit_id in self._attempted:
                own.add(str(news.commit_id))
            elif news.changes_rows:
                raise AnotherWriterError(self.contract.name, self.version)
            if news.metadata is not None or news.protocol is not None:
                table = DeltaTable(self.uri, version=self.version + 1)
                self._obey(_protocol(table), _metadata(table))
                if shape(_metadata(table)) != self._shape:
                    raise TableRefusedError(
                        self.contract.name,
                        "somebody has changed its columns while it is written",
                        "Start again: columns that were added are kept, and are null in what we write",
                    )
            self._rearranged |= news.removed
            self.version += 1
        return own

    def _obey(self, protocol: Action, metadata: Action) -> None:
        """Take note of what the table asks for.

        Raises:
            TableRefusedError: something that we do not do.
        """
        contract = self.contract
        expires = contract.retention_days is not None
        feature = refused_feature(protocol, metadata, append_only=contract.append_only, expires=expires)
        if feature is not None:
            raise TableRefusedError(
                contract.name,
                f"it uses the table feature {feature!r}, which Thalweg does not implement",
                "Switch it off (ALTER TABLE … DROP FEATURE, or UNSET TBLPROPERTIES), or keep a copy of the table with "
                "it for others; nothing was written",
            )
        self._stamped = stamps_commits(metadata)

    def _declare_properties(self, table: DeltaTable) -> None:
        """Bring a table of an older version in line: each file has all bounds or none, and the table says of what.

        Before, files had bounds of some columns, and readers that expect them of all did not find the others' rows.
        """
        known = table.metadata().configuration
        declared = {
            key: value
            for key, value in self.contract.properties.items()
            if known.get(key) != value and ("dataSkipping" in key or known.get(key) in FORMER.get(key, ()))
        }
        if not declared:
            return
        skipping = any("dataSkipping" in key for key in declared)
        if skipping and (restated := list(_restated(table, self.contract))):
            self.commit(restated, purpose="restate statistics")
        table = DeltaTable(self.uri)
        table.alter.set_table_properties(declared, raise_if_not_exists=False)
        if "://" not in self.uri:
            settle(self.uri, [f"_delta_log/{table.version():020d}.json"])
        self.version = table.version()


def _restated(table: DeltaTable, contract: TableContract) -> Iterable[AddAction]:
    """List files whose bounds are not complete once more, with those that they have."""
    filesystem, folder = folder_of(address_of(table))
    for row in pa.table(table.get_add_actions(flatten=False)).to_pylist():
        known = [row.get(kind) or {} for kind in ("min", "max", "null_count")]
        if row["num_records"] is not None and all(
            bounds.get(name) is not None for bounds in known for name in contract.bounded
        ):
            continue
        with pq.ParquetFile(f"{folder}/{row['path']}", filesystem=filesystem) as file:
            columns = [name for name in contract.bounded if name in file.schema_arrow.names]
            rows = file.read(columns=columns or None, use_threads=False)
        bounded = contract.bounded if len(columns) == len(contract.bounded) else ()
        yield AddAction(
            path=row["path"],
            size=row["size_bytes"],
            partition_values={name: str(value) for name, value in (row.get("partition") or {}).items()},
            modification_time=system_clock(),
            data_change=False,
            stats=bounds_of(rows, bounded).to_json(),
        )


def _protocol(table: DeltaTable) -> Action:
    protocol = table.protocol()
    return {
        "minWriterVersion": protocol.min_writer_version,
        "writerFeatures": protocol.writer_features,
        "readerFeatures": protocol.reader_features,
    }


def _metadata(table: DeltaTable) -> Action:
    known = table.metadata()
    return {
        "schemaString": table.schema().to_json(),
        "partitionColumns": known.partition_columns,
        "configuration": known.configuration,
    }
