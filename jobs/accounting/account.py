"""Keep the table `account` a fold of the ledger, in a process that no placement waits for.

Each commit says up to which of the ledger's rows it is a fold. A start folds the ledger from its first row, since a
stretch that is still open began anywhere, and adds only the entries behind that mark: nothing is booked twice or left
out, wherever the process was killed.
"""

from collections.abc import Callable, Iterator
from typing import Final

import pyarrow as pa
from deltalake import DeltaTable, Transaction

from thalweg.jobs.runtime.append_upkeep import AppendUpkeep
from thalweg.jobs.runtime.job import Stop
from thalweg.sync.clock import Clock
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.contracts import ACCOUNT, DECISIONS
from thalweg.sync.delta.store import table_uri
from thalweg.sync.ledger.account_fold import AccountEntry, AccountFold, entries_table
from thalweg.sync.ledger.reading import LedgerVersion, Position, in_whole_batches

_MARKS: Final = Position._fields
"""Names of the numbers that a commit records: the position of the last row that it is a fold of."""


class AccountKeeper:
    """The one writer of `account`. For one thread."""

    def __init__(
        self, warehouse: str, clock: Clock, stop: Stop, told: Callable[[str, pa.Table], None] = lambda *_: None
    ) -> None:
        """Prepare; the table is opened, and made, with the first look.

        Args:
            warehouse: where the tables lie.
            clock: the time of files and commits, in milliseconds.
            stop: ends a tidying, and a long fold between two of its pieces.
            told: given each piece of the ledger that was booked, with the ledger's id; from its first row at a start.
        """
        self._told = told
        self._warehouse = warehouse
        self._clock = clock
        self._stop = stop
        self._fold = AccountFold()
        self._table: Appender | None = None
        self._upkeep: AppendUpkeep | None = None
        self._ledger_id = ""
        self._booked: Position | None = None

    def step(self) -> int:
        """Book what the ledger has beyond the last look; return how many entries that were.

        Raises:
            AnotherWriterError: somebody else keeps the table.
            OSError: the disk does not take it; the next look makes up for it.
        """
        uri = table_uri(self._warehouse, DECISIONS.name)
        if not DeltaTable.is_deltatable(uri):
            return 0
        ledger = LedgerVersion(DeltaTable(uri))
        if ledger.ledger_id != self._ledger_id:
            self._begin(ledger.ledger_id)
        booked = 0
        for piece in self._news(ledger):
            try:
                booked += self._book(self._fold.fold(piece))
                self._told(ledger.ledger_id, piece)
            except BaseException:
                self._ledger_id = ""  # what the fold has taken in is not written: begin from the mark
                raise
            if self._stop.asked():
                break
        return booked

    def _begin(self, ledger_id: str) -> None:
        """Open the table, and see what it holds of this ledger."""
        self._table = Appender(ACCOUNT, self._warehouse)
        self._upkeep = AppendUpkeep(self._table, self._clock, self._stop)
        self._fold, self._ledger_id = AccountFold(), ledger_id
        found = [DeltaTable(self._table.uri).transaction_version(self._app_id(name)) for name in _MARKS]
        known = [int(version) for version in found if version is not None]
        self._booked = Position(*known) if len(known) == len(_MARKS) else None

    def _news(self, ledger: LedgerVersion) -> Iterator[pa.Table]:
        if self._fold.position is None:
            yield from ledger.all_rows()
        else:
            yield from in_whole_batches(ledger.rows_after(self._fold.position))

    def _book(self, entries: list[AccountEntry]) -> int:
        """Write the entries that are not in the table yet."""
        new = [entry for entry in entries if self._booked is None or _place(entry) > self._booked]
        if not new or self._table is None:
            return 0
        last = max(map(_place, new))
        marks = [Transaction(self._app_id(name), int(value)) for name, value in last._asdict().items()]
        self._table.commit(self._table.write(entries_table(new), self._clock()), *marks)
        self._booked = last
        return len(new)

    def _app_id(self, name: str) -> str:
        """Name a mark; those of another ledger at the same place are others."""
        return f"thalweg-account-{self._ledger_id}-{name}"

    def tidy(self) -> None:
        """Compact the table, and drop what is older than its retention."""
        if self._upkeep is not None:
            self._upkeep.step()
            self._upkeep.commit()


def _place(entry: AccountEntry) -> Position:
    return Position(entry.driver_epoch, entry.batch_id, entry.row)
