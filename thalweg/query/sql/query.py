"""SQL over the Delta tables without a JVM: DataFusion, by way of the `deltalake` package.

A table that no job has written yet appears empty, with its contract's schema. The jobs commit, compact and vacuum while
we read; a file that vanished under a query only means that the table must be opened anew. While the engine works, other
threads go on and Ctrl-C is heard.
"""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Self

from arro3.core import RecordBatch, Schema, Table
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError
from psutil import virtual_memory

from thalweg.query.sql.as_of import FOLDED, TIME_COLUMN, AsOf, LogTooShortError, Version, load_moment, load_version
from thalweg.query.sql.engine_stream import batches_of
from thalweg.query.sql.engine_thread import beside
from thalweg.query.sql.mending import gap_words
from thalweg.query.sql.sql_statement import QueryRefusedError, names_in, read_only
from thalweg.query.sql.type_names import engine_type, type_name
from thalweg.query.sql.values import distinct, shown_values
from thalweg.scheduling.counted import counted
from thalweg.sync.delta.contracts import CONTRACTS, DECISIONS, TableContract
from thalweg.sync.delta.plain_arrow import fields
from thalweg.sync.delta.store import open_or_create, table_uri

if TYPE_CHECKING:
    import pyarrow as pa

BY_NAME: Final = {contract.name: contract for contract in CONTRACTS}
# Each attempt reads the newest version; with two commits a second a second one nearly always succeeds.
_ATTEMPTS: Final = 5
_ENGINE_CHARACTERS: Final = 400  # of the engine's words: the cause often stands on their third line
MOST_ANSWER_MB: Final = 100
"""Of Arrow's bytes, for anybody's statement: as Python values, to be shown, they are ten times as much."""
_ENGINE_SHARE: Final = 0.25
"""Of the free memory, for what the engine sorts and joins for anybody's statement: the jobs run beside it. What does
not fit there is put on the disk, or the statement ends with words."""
_VANISHED: Final = re.compile(
    r"No such file|Object at location .* not found|NoSuchKey|status code: 404|No files in log"
)


class WarehouseUnreadableError(Exception):
    """The tables cannot be read, through no fault of the query."""


@dataclass(frozen=True, kw_only=True)
class QueryAnswer:
    """The rows of a query."""

    found: Table
    cut_off: bool
    """There were more rows than asked for."""

    @property
    def columns(self) -> list[str]:
        """Name the columns; those of one name are told apart."""
        return distinct(self.found.column_names)

    @property
    def types(self) -> list[str]:
        """Name the columns' types, as pyarrow does."""
        return [type_name(field.type) for field in fields(self.found.schema)]

    @cached_property
    def rows(self) -> "pa.Table":
        """The rows as pyarrow has them, for who computes with them."""
        import pyarrow as pa  # late: reading does without it

        # pa.table() would import pandas to look
        return pa.RecordBatchReader.from_stream(self.found).read_all().rename_columns(self.columns)

    def shown(self) -> list[tuple[Any, ...]]:
        """Give the rows as JSON's values, of whatever type the columns are.

        Raises:
            QueryRefusedError: a column is of a type that cannot be shown.
        """
        return list(zip(*(shown_values(column) for column in self.found.columns), strict=True))

    def dicts(self) -> list[dict[str, Any]]:
        """Give the rows as Python values by column, for queries of our own, over the tables' own types."""
        names, columns = self.columns, [column.to_pylist() for column in self.found.columns]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def query(sql: str, warehouse: str, as_of: AsOf | None = None, max_rows: int | None = None) -> QueryAnswer:
    """Run one reading statement of anybody's.

    Args:
        sql: DataFusion's dialect; table names are those of `sync.delta.contracts`.
        warehouse: folder or object-store URI.
        as_of: the version of the one table that is read, or a moment; None reads what is there now.
        max_rows: stop after so many rows; None returns all.

    Raises:
        QueryRefusedError: the statement writes, is wrong, names what does not exist, or has an answer of more than
            `MOST_ANSWER_MB`.
        WarehouseUnreadableError: there is no warehouse, or a table in it is damaged.
        LogTooShortError: the past asked for is no longer there.
    """
    statement = read_only(sql)
    with TableReader(warehouse, as_of, bounded=True) as reader:
        return reader.ask(statement, max_rows)


class TableReader:
    """Answers several questions over tables that are opened once: each answer is of the same versions."""

    def __init__(self, warehouse: str, as_of: AsOf | None = None, *, bounded: bool = False) -> None:
        """Prepare; see `query` for the arguments.

        Args:
            warehouse: folder or object-store URI.
            as_of: the moment that is read.
            bounded: whether statements are anybody's: they may not take the machine's memory.

        Raises:
            WarehouseUnreadableError: there is no warehouse.
        """
        if "://" not in warehouse and not Path(warehouse).is_dir():
            raise WarehouseUnreadableError(
                f"there is no warehouse at {warehouse}: start the jobs (thalweg up), or name another with --warehouse"
            )
        self._warehouse = warehouse
        self._as_of = as_of
        self._bounded = bounded
        # An engine that nobody waits for any more may still write there.
        self._scratch = TemporaryDirectory(prefix="thalweg-query-", ignore_cleanup_errors=True)
        self._session: QueryBuilder | None = None
        self._registered: frozenset[str] = frozenset()

    def ask(self, statement: str, max_rows: int | None = None) -> QueryAnswer:
        """Run a statement that is known to read only: one of ours, or one that `read_only` let through.

        Raises as `query`.
        """
        names = _tables_named(statement)
        if isinstance(self._as_of, Version):
            self._forget()  # a version is one table's, and each statement names its own
            names = _only_table(statement, self._as_of, names, self._warehouse, self._scratch.name)
        most_mb = MOST_ANSWER_MB if self._bounded else None
        return self._retried(lambda: _run(self._ready(names), statement, max_rows, most_mb), statement)

    def dicts(self, statement: str) -> list[dict[str, Any]]:
        """Answer with Python values by column; see `ask`."""
        return self.ask(statement).dicts()

    def _ready(self, names: frozenset[str]) -> QueryBuilder:
        """Give the session, with these tables in it."""
        if self._session is None:
            self._session, self._registered = _new_session(), frozenset()
            if self._bounded:
                free = int(virtual_memory().available * _ENGINE_SHARE)
                # What does not fit lies where it is removed however this ends.
                _set(self._session, "temp_directory", self._scratch.name)
                _set(self._session, "memory_limit", f"{free // 1_000_000}M")
        for name in sorted(names - self._registered):
            _register(self._session, BY_NAME[name], self._warehouse, self._as_of, self._scratch.name)
            self._registered |= {name}
        return self._session

    def _forget(self) -> None:
        self._session = None

    def _retried(self, attempt: Callable[[], QueryAnswer], statement: str) -> QueryAnswer:
        return _retried(attempt, statement, self._forget, of_past=self._as_of is not None)

    def close(self) -> None:
        """Remove what was written aside."""
        self._scratch.cleanup()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def quote(text: str) -> str:
    """Write a string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _tables_named(statement: str) -> frozenset[str]:
    """Name the tables that a statement may read: opening no others keeps a query at milliseconds."""
    words = names_in(statement)
    # SHOW and the information schema speak of all tables.
    return frozenset(BY_NAME) if words & {"show", "information_schema"} else words & BY_NAME.keys()


def _only_table(statement: str, version: Version, names: Iterable[str], warehouse: str, scratch: str) -> frozenset[str]:
    """Name the one table that a statement scans, in the engine's own opinion: a column may be named as a table is."""

    def explained() -> QueryAnswer:
        session = _new_session()
        for name in sorted(names):
            _register(session, BY_NAME[name], warehouse, None, scratch)
        return _run(session, f"EXPLAIN {statement}", None)

    plan = _retried(explained, statement, lambda: None)
    found = re.findall(r"TableScan: (\w+)", " ".join(row["plan"] for row in plan.dicts()))
    scanned = frozenset(name.removeprefix("all_") for name in found)
    if len(scanned) != 1:
        raise QueryRefusedError(
            f"--as-of {version.number} is a version of one table, this query reads "
            f"{', '.join(sorted(scanned)) or 'none'}; give a time instead"
        )
    return scanned


def _retried(
    attempt: Callable[[], QueryAnswer], statement: str, forget: Callable[[], None], *, of_past: bool = False
) -> QueryAnswer:
    for last in (*[False] * (_ATTEMPTS - 1), True):
        try:
            return beside(attempt)
        except (QueryRefusedError, LogTooShortError, WarehouseUnreadableError):
            raise
        # The engine raises its own errors, Arrow's, and bare Exception.
        except Exception as error:
            if not _VANISHED.search(str(error)):
                raise _explained(error, statement) from error
            if last:
                why = (
                    "the files of the version asked for are swept, or in no backup (ask for a later moment)"
                    if of_past
                    else "the writer replaces files faster than they are read (ask for fewer rows)"
                )
                raise WarehouseUnreadableError(
                    f"a file of the tables is missing, also after {_ATTEMPTS} attempts: {_first_line(error)}. Either "
                    f"{why}, or the table is damaged"
                ) from error
            forget()
            time.sleep(0.05)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _new_session() -> QueryBuilder:
    return QueryBuilder({"datafusion.catalog.information_schema": "true"})


def _set(session: QueryBuilder, option: str, value: str) -> None:
    session.execute(f"SET datafusion.runtime.{option} = {quote(value)}").read_all()


def _run(session: QueryBuilder, statement: str, max_rows: int | None, most_mb: int | None = None) -> QueryAnswer:
    reader = session.execute(statement)
    schema = reader.schema
    batches: list[RecordBatch] = []
    count = size = 0
    for batch in batches_of(reader):
        size += batch.nbytes
        if most_mb is not None and size > most_mb * 1_000_000:
            raise QueryRefusedError(
                f"the answer has more than {most_mb} MB (its first {counted(count + batch.num_rows, 'row')} have "
                f"{size / 1e6:,.0f} MB): ask for fewer columns or rows (--max-rows), or for sums; who wants whole "
                "tables reads their files with Spark, polars or DuckDB"
            )
        if max_rows is not None and count + batch.num_rows > max_rows:
            batches.append(batch.slice(0, max_rows - count))
            return _answer(batches, schema, cut_off=True)
        batches.append(batch)
        count += batch.num_rows
    return _answer(batches, schema, cut_off=False)


def _answer(batches: list[RecordBatch], schema: Schema, *, cut_off: bool) -> QueryAnswer:
    return QueryAnswer(found=Table.from_batches(batches, schema=schema), cut_off=cut_off)


def _register(session: QueryBuilder, contract: TableContract, warehouse: str, as_of: AsOf | None, scratch: str) -> None:
    name, uri = contract.name, table_uri(warehouse, contract.name)
    try:
        if as_of is None:
            table: DeltaTable | None = DeltaTable(uri)
        elif isinstance(as_of, Version):
            table = load_version(uri, name, as_of)
        elif name in FOLDED:
            table = _folded(name, warehouse, as_of, scratch)
        elif name in TIME_COLUMN:
            until = f"{TIME_COLUMN[name]} <= TIMESTAMP {quote(as_of.isoformat())}"
            _offer(session, contract, DeltaTable(uri), where=until)
            return
        else:
            table = load_moment(uri, name, as_of)
    except TableNotFoundError:
        table = None
    except DeltaError as error:
        if _VANISHED.search(str(error)):
            raise
        what = gap_words(name, uri) or f"table {name!r} cannot be opened: {_first_line(error)}"
        raise WarehouseUnreadableError(what) from error
    _offer(session, contract, table or open_or_create(contract, scratch))


def _offer(session: QueryBuilder, contract: TableContract, table: DeltaTable, where: str = "true") -> None:
    """Register a table, or the rows of it that are meant; columns that one of an older version lacks read as null."""
    known = {field.name for field in table.schema().fields}
    missing = [field for field in fields(contract.columns) if field.name not in known]
    if not missing and where == "true":
        session.register(contract.name, table)
        return
    session.register(f"all_{contract.name}", table)
    nulls = "".join(f", arrow_cast(NULL, {quote(engine_type(field.type))}) AS {field.name}" for field in missing)
    session.execute(f"CREATE VIEW {contract.name} AS SELECT *{nulls} FROM all_{contract.name} WHERE {where}").read_all()


def _folded(name: str, warehouse: str, moment: datetime, scratch: str) -> DeltaTable:
    """Give `tasks` or `placements` of a moment, folded from the ledger's rows up to it."""
    import pyarrow as pa  # late: only the past of these two needs it, and all of the ledger

    from thalweg.sync.ledger.folds import LEDGER_COLUMNS, fold_ledger, of_any_version

    decisions = DeltaTable(table_uri(warehouse, DECISIONS.name))
    session = QueryBuilder().register("decisions", decisions)
    known = {field.name for field in decisions.schema().fields}  # an older version's has fewer
    columns = ", ".join(f'"{column}"' for column in LEDGER_COLUMNS if column in known)
    rows = session.execute(f"SELECT {columns} FROM decisions WHERE decided_at <= TIMESTAMP {quote(moment.isoformat())}")
    # The engine returns string views, which Arrow cannot take from yet.
    ledger = of_any_version(pa.RecordBatchReader.from_stream(rows).read_all())
    write_deltalake(f"{scratch}/{name}", dict(zip(FOLDED, fold_ledger(ledger), strict=True))[name], mode="overwrite")
    return DeltaTable(f"{scratch}/{name}")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _explained(error: Exception, statement: str) -> Exception:
    """Put the engine's words into ours: what was seen, and what there is."""
    text = str(error)
    if "Resources exhausted" in text:
        return QueryRefusedError(
            f"the query needs more memory than it may take, which is {_ENGINE_SHARE:.0%} of what was free: sort, join "
            "or group fewer rows or columns"
        )
    if missing := re.search(r"table '(?:[^'.]*\.)*([^'.]+)' not found", text):
        return QueryRefusedError(f"there is no table {missing.group(1)!r}; there are: {', '.join(sorted(BY_NAME))}")
    if missing := re.search(r"No field named ([^\n]+?)\.(?:\n|$| )", text):
        columns = "; ".join(
            f"{name}({', '.join(BY_NAME[name].columns.names)})" for name in sorted(_tables_named(statement))
        )
        return QueryRefusedError(
            f"there is no column {missing.group(1)}; there are: {columns or 'none: no table is read'}"
        )
    if isinstance(error, DeltaError) and re.match(
        r"SQL error|Schema error|Error during planning|This feature|type_", text
    ):
        reason = re.sub(r"^SQL error: ParserError\(\"(.*)\"\)$", r"\1", _first_line(error))
        return QueryRefusedError(f"the query is not understood: {reason}")
    return WarehouseUnreadableError(f"the query failed: {' '.join(text.split())[:_ENGINE_CHARACTERS]}")
