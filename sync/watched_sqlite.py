"""An SQLite file of which every failure is told in words: what was seen, and what is to be done about it.

A damaged page shows itself wherever it is first read: at the opening, in a query a week later, in the middle of a
fetch. So a failure is put into words where it comes up, in the connection itself, and no caller has to expect it.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

Kind = TypeVar("Kind")


class FaultKind(StrEnum):
    """Why a file cannot be used."""

    DAMAGED = "damaged"
    """It is no database, not of this kind, or not what was written."""
    FULL = "full"
    """The disk takes nothing."""
    HELD = "held"
    """Somebody else writes to it and does not end."""
    CLOSED = "closed"
    """It cannot be opened, or not to write."""


@dataclass(frozen=True, slots=True)
class FileFault:
    """What is wrong with a file."""

    kind: FaultKind
    seen: str

    def remedy(self, if_damaged: str) -> str:
        """Say what is to be done; for a damaged file that is its owner's to say."""
        return {
            FaultKind.FULL: "Free space where it lies; what was committed is whole",
            FaultKind.HELD: "Another program writes to it: end that one (`fuser` tells which), and start again",
            FaultKind.CLOSED: "Let the user who runs this read and write the file and its folder, and start again",
        }.get(self.kind, if_damaged)


Told = Callable[[FileFault], Exception]
"""Makes the owner's error of a fault."""

_KINDS: Final = {
    sqlite3.SQLITE_FULL: FaultKind.FULL,
    sqlite3.SQLITE_IOERR: FaultKind.FULL,
    sqlite3.SQLITE_BUSY: FaultKind.HELD,
    sqlite3.SQLITE_LOCKED: FaultKind.HELD,
    sqlite3.SQLITE_CANTOPEN: FaultKind.CLOSED,
    sqlite3.SQLITE_READONLY: FaultKind.CLOSED,
    sqlite3.SQLITE_PERM: FaultKind.CLOSED,
    sqlite3.SQLITE_AUTH: FaultKind.CLOSED,
}
_FAILURES: Final = (sqlite3.Error, OverflowError, UnicodeDecodeError)
"""A number that is too large once it was added to is damage, too, and so is a name that is no text."""
_CLASSES: Final = {"INTEGER": "integer", "TEXT": "text", "BLOB": "blob"}
_COLUMNS: Final = """
SELECT tables.name, columns.name, columns.type, columns."notnull" OR columns.pk
FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns
WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite_%' ORDER BY 1, columns.cid
"""


def fault_of(error: sqlite3.Error) -> FileFault:
    """Tell what a failure says of the file."""
    code = getattr(error, "sqlite_errorcode", None)  # what Python itself finds wrong with a text has none
    return FileFault(_KINDS.get((code or 0) & 0xFF, FaultKind.DAMAGED), str(error))


class WatchedRows(sqlite3.Cursor):
    """Rows that may turn out unreadable while they are fetched."""

    connection: "WatchedFile"

    def fetchone(self) -> Any:
        """Give the next row, or None."""
        with self.connection.in_words():
            return super().fetchone()

    def fetchall(self) -> list[Any]:
        """Give the rows that are left."""
        with self.connection.in_words():
            return super().fetchall()

    def __next__(self) -> Any:
        """Give the next row."""
        try:
            return super().__next__()
        except _FAILURES as error:
            raise self.connection.words_of(error) from error


class WatchedFile(sqlite3.Connection):
    """A connection whose failures are its owner's errors."""

    told: Told

    def words_of(self, error: Exception) -> Exception:
        """Give the owner's error; of a mistake in a program, the mistake itself."""
        if isinstance(error, sqlite3.ProgrammingError):
            return error
        return self.told(fault_of(error)) if isinstance(error, sqlite3.Error) else self.damaged(str(error))

    def damaged(self, seen: str) -> Exception:
        """Give the owner's error of a file that is not what was written."""
        return self.told(FileFault(FaultKind.DAMAGED, seen))

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """Put what fails within into words."""
        try:
            yield
        except _FAILURES as error:
            raise self.words_of(error) from error

    def execute(self, asked: str, of: Any = (), /) -> sqlite3.Cursor:
        """Run a statement."""
        try:
            return self.cursor(WatchedRows).execute(asked, of)
        except _FAILURES as error:
            raise self.words_of(error) from error

    def executemany(self, asked: str, of: Any, /) -> sqlite3.Cursor:
        """Run a statement for each of many rows."""
        with self.in_words():
            return self.cursor(WatchedRows).executemany(asked, of)

    def executescript(self, asked: str, /) -> sqlite3.Cursor:
        """Run statements, each committed by itself."""
        with self.in_words():
            return self.cursor(WatchedRows).executescript(asked)

    def rows_as(self, kind: type[Kind], asked: str) -> list[Kind]:
        """Read rows, each of a type.

        Raises:
            Exception: the owner's, where one is of another.
        """
        try:
            return msgspec.convert(self.execute(asked).fetchall(), list[kind])  # type: ignore[valid-type]
        except msgspec.ValidationError as error:
            raise self.damaged(f"{error}, asked by {asked!r}") from error

    def check_pages(self) -> None:
        """Look at every page: 0.15 s for a million rows.

        Raises:
            Exception: the owner's, where one is not as it was written.
        """
        (first,) = self.execute("PRAGMA quick_check(1)").fetchone()
        if first != "ok":
            where = " ".join(str(first).removeprefix("*** in database main ***").split())
            raise self.damaged(f"database disk image is malformed ({where})")

    def check_tables(self, schema: str) -> None:
        """Look at every row of a schema's tables: 0.2 s for a million.

        Raises:
            Exception: the owner's, where a table is not as the schema says.
        """
        found = _tables(self)
        for table, columns in _tables_of(schema).items():
            if [column[:1] for column in found.get(table, ())] != [column[:1] for column in columns]:
                seen = ", ".join(name for name, *_ in found.get(table, ())) or "not there"
                raise self.damaged(
                    f"table {table}: expected are {', '.join(name for name, *_ in columns)}; it is {seen}"
                )
            wrong = " OR ".join(
                f"typeof({name}) != '{_CLASSES[kind]}'" + ("" if needed else f" AND {name} IS NOT NULL")
                for name, kind, needed in columns
            )
            if self.execute(f"SELECT 1 FROM {table} WHERE {wrong} LIMIT 1").fetchone() is not None:
                raise self.damaged(f"table {table}: a value is of another type than its column")


def open_file(path: Path | str, told: Told, **options: Any) -> WatchedFile:
    """Open a file, or make it.

    Args:
        path: of the file, an address that SQLite knows, or ":memory:".
        told: makes the owner's error of a fault.
        options: as of `sqlite3.connect`.

    Raises:
        Exception: the owner's, where it cannot be opened.
    """
    try:
        db = sqlite3.connect(path, factory=WatchedFile, **options)
    except sqlite3.Error as error:
        raise told(fault_of(error)) from error
    db.told = told
    return db


def _tables(db: sqlite3.Connection) -> dict[str, list[Sequence[Any]]]:
    """Columns by table, in their order: name, type, and whether each row has a value."""
    found: dict[str, list[Sequence[Any]]] = {}
    for table, *column in db.execute(_COLUMNS):
        found.setdefault(table, []).append(column)
    return found


def _tables_of(schema: str) -> dict[str, list[Sequence[Any]]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(schema)
        return _tables(db)
