"""Rows of `tasks` as far as the ledger goes: what the table has, and on top what the ledger has beyond it.

The table follows the ledger by a second or so. Who was told that a task begins again must not read that it has ended:
that is the end before. So the ledger's rows behind the table's mark go through the fold that writes the table.
"""

from typing import Any, Final

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from thalweg.query.sql.engine_thread import beside
from thalweg.query.sql.query import TableReader
from thalweg.sync.delta.contracts import PLACEMENTS, TASKS
from thalweg.sync.delta.store import table_uri
from thalweg.sync.ledger.fold_marks import FOLD_BATCH, FOLD_DRIVER

_COLUMNS: Final = ", ".join(TASKS.columns.names)
_ALL: Final = "true"


def newest_rows(reader: TableReader, warehouse: str, condition: str) -> dict[str, dict[str, Any]]:
    """Give the rows of some tasks by their ids, archived ones too; of an id that lives anew, the newer one.

    Args:
        reader: of the tables of now.
        warehouse: that it reads.
        condition: on `task_id`, in SQL.
    """
    # The mark first: what is folded meanwhile is folded twice then, which changes nothing.
    beyond = _beyond_the_tables(warehouse)
    known = known_rows(reader, condition)
    if beyond is None:
        return known
    if not reader.ask(f"SELECT 1 FROM decisions WHERE {beyond} AND {condition} LIMIT 1").found.num_rows:
        return known
    try:
        return known | _folded(reader, beyond, condition)
    except ModuleNotFoundError:  # the client alone has no pyarrow: it reads what the tables have
        return known


def known_rows(reader: TableReader, condition: str) -> dict[str, dict[str, Any]]:
    """Give them as the tables have them: of the past, too, where that is what the reader reads."""
    rows = [
        row
        for table in ("tasks_archive", "tasks")
        for row in reader.dicts(f"SELECT {_COLUMNS} FROM {table} WHERE {condition}")
    ]
    return {row["task_id"]: row for row in sorted(rows, key=lambda row: row["changed_at"])}


def _beyond_the_tables(warehouse: str) -> str | None:
    """Say in SQL which of the ledger's rows `tasks` may lack; None where it does not say, as those of older versions.

    `placements` is written last: what it has, `tasks` has.
    """
    try:
        table = beside(lambda: DeltaTable(table_uri(warehouse, PLACEMENTS.name)))
    except TableNotFoundError:
        return _ALL
    driver, batch = table.transaction_version(FOLD_DRIVER), table.transaction_version(FOLD_BATCH)
    if driver is None or batch is None:
        return None
    # By the columns whose bounds every file has: of a ledger of years the last files are read.
    return f"(driver_epoch > {driver} OR (driver_epoch = {driver} AND batch_id > {batch}))"


def _folded(reader: TableReader, beyond: str, condition: str) -> dict[str, dict[str, Any]]:
    """Fold the ledger's rows onto what the tables have of their tasks; give the rows of `tasks` that change."""
    from thalweg.sync.delta.data_files import conformed  # late: pyarrow takes longer to load than the rest takes
    from thalweg.sync.ledger.folds import LEDGER_COLUMNS, LedgerFold, of_any_version

    tasks = reader.ask(f"SELECT {_COLUMNS} FROM tasks WHERE {condition}").rows
    placements = reader.ask(f"SELECT {', '.join(PLACEMENTS.columns.names)} FROM placements WHERE {condition}").rows
    rows = reader.ask(f"SELECT {', '.join(LEDGER_COLUMNS)} FROM decisions WHERE {beyond} AND {condition}").rows
    fold = LedgerFold.restore(conformed(tasks, TASKS.schema), conformed(placements, PLACEMENTS.schema), None)
    return {row["task_id"]: row for row in fold.fold(of_any_version(rows)).tasks.to_pylist()}
