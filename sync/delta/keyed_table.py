"""A table with one row for each key, brought up to date a few thousand keys at a time, at a cost that does not grow.

A MERGE rewrites every file that holds one of its keys, and what it writes is one file: soon the whole table is
rewritten for every few keys. Here rows that may still change and rows that never will lie in different files. Files
with rows that may change are small, and their rows are held in memory, so an update writes what it changes and its
neighbours without reading anything. Rows that are settled are written once.

One commit brings an update: readers see all of it or nothing. (Delta transaction log protocol, "Add File and Remove
File".)
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import DeltaTable, Transaction
from deltalake.transaction import AddAction, RemoveAction

from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.compaction import Rewrite, merge_once_more
from thalweg.sync.delta.contracts import TableContract
from thalweg.sync.delta.data_files import conformed, folder_of
from thalweg.sync.delta.engine import select
from thalweg.sync.delta.pending import Pending
from thalweg.sync.delta.store import RearrangedError

LARGEST_ROWS: Final = 8_192
"""Rows of a file that may still change, unless the table's owner says otherwise: what one changed row may have to take
with it."""
_SMALL_SHARE: Final = 4
"""A file below this part of the largest is merged with others of its kind when files are compacted."""
_LOOK_BACK: Final = 10
"""Versions among which an earlier state is looked for: one step makes two or three."""
MOST_HELD_ROWS: Final = 500_000
"""Settled rows held until they are compacted; files beyond stay as they are."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the table's current version, with its rows."""

    action: AddAction
    rows: pa.Table


class KeyedTable:
    """The one writer of a table. For one thread."""

    def __init__(
        self,
        contract: TableContract,
        warehouse: str,
        largest_rows: int | None = None,
        settled_by: tuple[str, Collection[str]] | None = None,
    ) -> None:
        """Open the table to write it anew: what it holds is replaced by the first `write`.

        Args:
            contract: with the key; the table has no partitions.
            warehouse: folder or URI.
            largest_rows: of a file that may change; None takes LARGEST_ROWS.
            settled_by: a column, and its values in rows that will never change again; None where the table does not
                say which those are.
        """
        self._settled_by = settled_by
        self._largest_rows = LARGEST_ROWS if largest_rows is None else largest_rows
        self._table = Appender(contract, warehouse)
        self._key = contract.key
        self._old: tuple[AddAction, ...] = tuple(_files_of(self._table))
        self._changing: dict[int, _File] = {}
        self._settled: list[_File] = []
        self._file_of: dict[str, int] = {}
        self._next = 0
        self._stale = False
        self._newest: dict[str, int] = {}

    @classmethod
    def resumed(cls, contract: TableContract, warehouse: str, largest_rows: int | None = None) -> Self:
        """Open the table to go on with it: its rows are read, and any of them may change.

        Args:
            contract: with the key; columns that a table of an older version lacks are added to it.
            warehouse: folder or URI.
            largest_rows: as for the constructor.
        """
        table = cls(contract, warehouse, largest_rows)
        table._read()
        return table

    def resume(self) -> None:
        """Go on with what the table holds, where it was opened to be written anew."""
        self._read()

    def transaction(self, name: str) -> int | None:
        """Version that was recorded last under an application id."""
        found = DeltaTable(self.uri, version=self._table.version).transaction_version(name)
        return None if found is None else int(found)

    def rows_when(self, transactions: Mapping[str, int], where: tuple[str, Collection[str]]) -> pa.Table | None:
        """Rows of the last version that has these transactions, a few commits ago; None where none of those has.

        Args:
            transactions: by application id.
            where: a column, and its values in the rows that are wanted.

        Raises:
            DeltaError: the log does not reach back to it any more.
            UnreadableTableError: its files are not there any more.
        """
        for version in range(self._table.version, max(self._table.version - _LOOK_BACK, -1), -1):
            table = DeltaTable(self.uri, version=version)
            if all(table.transaction_version(name) == wanted for name, wanted in transactions.items()):
                column, values = where
                listed = ", ".join(f"'{value}'" for value in values)
                found = select(table, "earlier", f"SELECT * FROM earlier WHERE {column} IN ({listed})")
                return conformed(found, self._table.contract.schema)
        return None

    def _read(self) -> None:
        """Hold the rows of the table's files that may change; those of files in which all are settled stay unread."""
        self._changing, self._settled, self._file_of = {}, [], {}
        filesystem, folder = folder_of(self.uri)
        for action in _files_of(self._table):
            path = f"{folder}/{action.path}"
            is_settled, count = self._is_settled(path, filesystem)
            if is_settled and count * _SMALL_SHARE >= self._largest_rows:
                continue
            # Spark writes moments as INT96, which reads as nanoseconds without a zone; they are UTC.
            stored = pq.read_table(path, filesystem=filesystem, partitioning=None, coerce_int96_timestamp_unit="us")
            file = _File(action, conformed(stored, self._table.contract.schema))
            if is_settled:
                self._settled.append(file)  # small ones are merged
            else:
                self._hold(file)
        self._old, self._stale = (), False

    def _is_settled(self, path: str, filesystem: pafs.FileSystem) -> tuple[bool, int]:
        """Tell whether no row of a file will change again, and how many there are."""
        if self._settled_by is None:
            return False, 0
        column, values = self._settled_by
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            found = file.read(columns=[column], use_threads=False).column(column)
        mask = pc.is_in(found.cast(pa.string()), value_set=pa.array(values, pa.string()))
        return bool(pc.all(mask).as_py()), len(found)

    @property
    def uri(self) -> str:
        """Where it lies."""
        return self._table.uri

    @property
    def pending(self) -> Pending:
        """Files written and not committed."""
        return self._table.pending

    def rows(self) -> pa.Table:
        """All rows that may still change."""
        return pa.concat_tables([self._table.contract.schema.empty_table(), *(f.rows for f in self._changing.values())])

    def write(
        self,
        rows: pa.Table,
        gone: pa.Table,
        settled: pa.ChunkedArray | pa.Array,
        now_ms: int,
        transactions: Mapping[str, int] | None = None,
        unsettled: pa.Table | None = None,
    ) -> None:
        """Put rows in the place of those with their keys, and take others away; one commit.

        Args:
            rows: with the table's schema, each key once.
            gone: the key columns of rows to take away; a key that is not there is no error.
            settled: for each of the rows, whether it will never change again.
            now_ms: the time of the files.
            transactions: recorded with the commit, by application id. Without them there is none if nothing changes.
            unsettled: the key columns of settled rows to take away, because what they are of begins anew. Their files
                are looked for and written without them, which is dear: nobody should do so all the time.

        Raises:
            AnotherWriterError: somebody else has written to the table.
            OSError: the disk does not take it; the same call may be made again.
        """
        try:
            self._write_rows(rows, gone, settled, now_ms, transactions or {}, unsettled)
        except RearrangedError:
            self._take_files_anew()
            self._write_rows(rows, gone, settled, now_ms, transactions or {}, unsettled)

    def _take_files_anew(self) -> None:
        """Look where the rows lie now: somebody else has merged files, or a commit ended in the dark."""
        if self._old:  # everything is to be replaced, wherever it lies
            self._old, self._stale = tuple(_files_of(self._table)), False
        else:
            self._read()

    def _write_rows(
        self,
        rows: pa.Table,
        gone: pa.Table,
        settled: pa.ChunkedArray | pa.Array,
        now_ms: int,
        transactions: Mapping[str, int],
        unsettled: pa.Table | None,
    ) -> None:
        if self._stale:
            self._table.refresh()
            self._take_files_anew()
        keys = self._keys(rows)
        touched = pa.chunked_array([keys, self._keys(gone)], pa.string())
        hit = {self._file_of[key] for key in touched.to_pylist() if key in self._file_of}
        staying = [
            file.rows.filter(pc.invert(pc.is_in(self._keys(file.rows), value_set=touched)))
            for file in (self._changing[number] for number in sorted(hit))
        ]
        changing = pa.concat_tables([*staying, rows.filter(pc.invert(settled))]).combine_chunks()
        replaced = [self._changing[number].action for number in hit]
        # What is to be replaced as a whole has nothing that could stay.
        revised = [] if self._old or unsettled is None else self._settled_with(self._keys(unsettled))
        self._swap(
            [*self._old, *replaced, *(file.action for file in revised)],
            hit,
            changing,
            pa.concat_tables([*(file.rows for file in revised), rows.filter(settled)]),
            touched,
            now_ms,
            is_news=True,
            transactions=transactions,
        )
        self._old = ()

    def _settled_with(self, keys: pa.ChunkedArray | pa.Array) -> list[_File]:
        """Files of settled rows that hold some of these keys, with their other rows."""
        if not len(keys):
            return []
        filesystem, folder = folder_of(self.uri)
        changing = {file.action.path for file in self._changing.values()}
        held = {file.action.path: file.rows for file in self._settled}
        found: list[_File] = []
        for action in _files_of(self._table):
            if action.path in changing:
                continue
            rows = held.get(action.path)
            if rows is None:
                path = f"{folder}/{action.path}"
                stored = pq.read_table(
                    path, columns=list(self._key), filesystem=filesystem, partitioning=None, use_threads=False
                )
                if not pc.any(pc.is_in(self._keys(stored), value_set=keys)).as_py():
                    continue
                whole = pq.read_table(path, filesystem=filesystem, partitioning=None, coerce_int96_timestamp_unit="us")
                rows = conformed(whole, self._table.contract.schema)
            leaving = pc.is_in(self._keys(rows), value_set=keys)
            if pc.any(leaving).as_py():
                found.append(_File(action, rows.filter(pc.invert(leaving))))
        return found

    def settled_before(self, column: str, moment_us: int) -> list[tuple[AddAction, pa.Table]]:
        """Files in which every row is settled and has a moment before another in this column, with their rows."""
        filesystem, folder = folder_of(self.uri)
        changing = {file.action.path for file in self._changing.values()}
        found = []
        for action in _files_of(self._table):
            if action.path in changing or self._newest.get(action.path, moment_us - 1) >= moment_us:
                continue
            path = f"{folder}/{action.path}"
            if action.path not in self._newest:
                with pq.ParquetFile(path, filesystem=filesystem) as file:
                    moments = (
                        file.read(columns=[column], use_threads=False).column(column).cast(pa.timestamp("us", "UTC"))
                    )
                self._newest[action.path] = pc.max(moments.cast(pa.int64())).as_py() or 0
            if self._newest[action.path] < moment_us and self._is_settled(path, filesystem)[0]:
                rows = pq.read_table(path, filesystem=filesystem, partitioning=None, coerce_int96_timestamp_unit="us")
                found.append((action, conformed(rows, self._table.contract.schema)))
        return found

    def drop(self, files: Sequence[AddAction], now_ms: int, transactions: Mapping[str, int]) -> None:
        """Take whole files of settled rows away; one commit."""
        gone = {file.path for file in files}
        empty = self._table.contract.schema.empty_table()
        nothing = pa.chunked_array([], pa.string())
        self._swap(files, set(), empty, empty, nothing, now_ms, is_news=True, transactions=transactions)
        self._settled = [file for file in self._settled if file.action.path not in gone]
        self._newest = {path: newest for path, newest in self._newest.items() if path not in gone}

    def find(self, column: str, value: pa.Scalar, wanted: str) -> pa.Array:
        """Values of one column in the rows that have a value in another, in whatever file they lie."""
        filesystem, folder = folder_of(self.uri)
        found = [pa.array([], pa.string())]
        for action in _files_of(self._table):
            with pq.ParquetFile(f"{folder}/{action.path}", filesystem=filesystem) as file:
                rows = file.read(columns=[column, wanted], use_threads=False)
            mask = pc.equal(rows.column(column).cast(value.type), value)
            found += rows.column(wanted).filter(mask).cast(pa.string()).chunks
        return pa.concat_arrays(found)

    @property
    def is_empty(self) -> bool:
        """Tell whether the table has no file."""
        return next(iter(_files_of(self._table)), None) is None

    def settled_among(self, column: str, values: pa.Array) -> list[AddAction]:
        """Files in which every row is settled and has one of these values in this column."""
        filesystem, folder = folder_of(self.uri)
        changing = {file.action.path for file in self._changing.values()}
        found = []
        for action in _files_of(self._table):
            if action.path not in changing:
                with pq.ParquetFile(f"{folder}/{action.path}", filesystem=filesystem) as file:
                    seen = file.read(columns=[column], use_threads=False).column(column)
                if pc.all(pc.is_in(seen.cast(values.type), value_set=values)).as_py():
                    found.append(action)
        return found

    def compact(self, now_ms: int) -> int:
        """Merge small files of both kinds; returns how many."""
        if self._stale:
            return 0  # the next write sees to it
        few = {
            number for number, file in self._changing.items() if file.rows.num_rows * _SMALL_SHARE < self._largest_rows
        }
        few = few if len(few) > 1 else set()
        written = self._settled if len(self._settled) > 1 else []
        if not few and not written:
            return 0
        changing = [self._changing[number].rows for number in sorted(few)]
        replaced = [*(self._changing[number].action for number in few), *(file.action for file in written)]
        empty = self._table.contract.schema.empty_table()
        try:
            self._swap(
                replaced,
                few,
                pa.concat_tables([empty, *changing]),
                pa.concat_tables([empty, *(file.rows for file in written)]),
                pa.chunked_array([], pa.string()),
                now_ms,
                is_news=False,
            )
        except RearrangedError:  # somebody else has merged them
            self._take_files_anew()
            return 0
        self._settled = []  # one file now, large enough: its rows are held no longer
        return len(replaced)

    def merge_settled(self, now_ms: int, pause: Callable[[], bool]) -> int:
        """Merge what compaction has made of settled rows where there is much of it; return how many were replaced.

        For tables of which no file is ever taken away for its age: in a merged one the youngest row would keep the
        others.

        Args:
            now_ms: the time of the files.
            pause: called every few milliseconds; True means stop, and nothing is left behind.
        """
        if self._stale or self._old:
            return 0  # the next write sees to it
        held = [*self._changing.values(), *self._settled]
        fresh = {file.action.path for file in held}

        def swap(made: Rewrite) -> None:
            try:
                self._table.commit(made.actions, purpose="optimize")
            except OSError:
                self._stale = True  # it may have been made all the same
                raise
            for action in made.removed:
                self._newest.pop(action.path, None)

        return merge_once_more(self._table, fresh, now_ms, pause, swap)

    def _swap(
        self,
        replaced: Iterable[AddAction],
        hit: set[int],
        changing: pa.Table,
        settled: pa.Table,
        touched: pa.ChunkedArray,
        now_ms: int,
        *,
        is_news: bool,
        transactions: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Commit new files in the place of others, and only then believe in them."""
        starts = range(0, changing.num_rows, self._largest_rows)
        parts = [changing.slice(start, self._largest_rows) for start in starts]
        files = [_File(self._write(part, now_ms, is_news), part) for part in parts]
        done = [_File(self._write(settled, now_ms, is_news), settled)] if settled.num_rows else []
        removed = [
            RemoveAction(action.path, is_news, now_ms, action.size, dict(action.partition_values))
            for action in replaced
        ]
        if not removed and not files and not done and not transactions:
            return
        added = [file.action for file in (*files, *done)]
        try:
            marks = (Transaction(name, version) for name, version in transactions.items())
            self._table.commit([*removed, *added], *marks, purpose="append" if is_news else "optimize")
        except RearrangedError:
            self._table.abandon(added)
            raise
        except OSError:
            self._stale = True  # it may have been made all the same
            raise
        for key in touched.to_pylist():
            self._file_of.pop(key, None)
        for number in hit:
            del self._changing[number]
        for file in files:
            self._hold(file)
        gone = {action.path for action in removed}
        self._settled = [file for file in self._settled if file.action.path not in gone]
        if done and sum(file.rows.num_rows for file in self._settled) + settled.num_rows <= MOST_HELD_ROWS:
            self._settled += done

    def _hold(self, file: _File) -> None:
        self._changing[self._next] = file
        self._file_of.update(dict.fromkeys(self._keys(file.rows).to_pylist(), self._next))
        self._next += 1

    def _write(self, rows: pa.Table, now_ms: int, is_news: bool) -> AddAction:
        (action,) = self._table.write(rows, now_ms)  # one, because the table has no partitions
        action.data_change = is_news
        return action

    def _keys(self, rows: pa.Table) -> pa.Array | pa.ChunkedArray:
        """One string for the key of each row."""
        columns = [rows[name].cast(pa.string()) for name in self._key]
        return pc.binary_join_element_wise(*columns, "\0")


def _files_of(table: Appender) -> Iterable[AddAction]:
    """Files of the version that the table's writer has seen."""
    actions = pa.table(DeltaTable(table.uri, version=table.version).get_add_actions()).to_pylist()
    for action in actions:
        values: Mapping[str, str] = {}
        yield AddAction(
            path=action["path"],
            size=action["size_bytes"],
            partition_values=values,
            modification_time=0,
            data_change=True,
            stats="",
        )
