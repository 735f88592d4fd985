"""How many elements a task stands for, as its stored request says; and what is said of one that is not among them."""

import json

from thalweg.query.reports.newest_rows import known_rows, newest_rows
from thalweg.query.sql.as_of import AsOf
from thalweg.query.sql.query import TableReader, quote
from thalweg.scheduling.decisions.array_words import beyond_its_array
from thalweg.scheduling.ids import TaskId


def elements_asked(request: str | None) -> int | None:
    """Give the number of elements that a stored request asks for; None where it asks for none."""
    if '"array"' not in (request or ""):
        return None
    array = json.loads(request or "{}").get("array")
    return array["count"] if array else None


def array_beside(task_id: str, warehouse: str, as_of: AsOf | None = None) -> str:
    """Say of a task that is not there, and looks like an element, which elements its array has; see `beyond_its_array`.

    Raises:
        WarehouseUnreadableError: the tables cannot be read.
    """

    def count_of(array: TaskId) -> int | None:
        condition = f"task_id = {quote(array)}"
        with TableReader(warehouse, as_of) as reader:
            rows = newest_rows(reader, warehouse, condition) if as_of is None else known_rows(reader, condition)
        return elements_asked(rows[array]["request"]) if array in rows else None

    return beyond_its_array(task_id, count_of)
