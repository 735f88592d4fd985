"""The tasks that somebody looks for: counted by state, the first of them in full."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from thalweg.query.sql.query import TableReader, quote
from thalweg.scheduling.world.tasks import TaskState
from thalweg.sync.delta.contracts import TASKS


class TaskOrder(StrEnum):
    """What tasks are sorted by."""

    CHANGED = "changed"
    SUBMITTED = "submitted"
    PRIORITY = "priority"
    COST = "cost"
    VALUE = "value"
    TASK = "task"
    STATE = "state"


_ORDERED: Final = {
    # The newest, the dearest and the most urgent come first; names as in a book.
    TaskOrder.CHANGED: ("changed_at", "DESC"),
    TaskOrder.SUBMITTED: ("submitted_at", "DESC"),
    TaskOrder.PRIORITY: ("priority", "DESC"),
    TaskOrder.COST: ("cost_usd_per_hour", "DESC"),
    TaskOrder.VALUE: ("value_usd_per_hour", "DESC"),
    TaskOrder.TASK: ("task_id", "ASC"),
    TaskOrder.STATE: ("state", "ASC"),
}
_TURNED: Final = {"ASC": "DESC", "DESC": "ASC"}
_COLUMNS: Final = ", ".join(TASKS.columns.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks are meant; what is None or empty asks for nothing."""

    task_ids: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    tenant: str | None = None
    region: str | None = None
    """With a copy there."""
    name: str | None = None
    """Their name, or their id where they have none; * and ? stand for any characters and for one."""
    array: str | None = None
    """Elements of this task."""
    reason: str | None = None
    """Words in the reason, in upper or lower case."""
    since: datetime | None = None
    """Changed at that moment or later."""
    held: bool = False
    """Held by a request."""
    ended_too: bool = False
    """Also those that ended long ago."""

    @property
    def is_everything(self) -> bool:
        """Tell whether nothing is asked for."""
        return list(self._conditions()) == []

    @property
    def reads_archive(self) -> bool:
        """Tell whether a task may be meant that ended long ago."""
        return self.ended_too or self.since is not None or bool(self.task_ids)

    def condition(self) -> str:
        """Say it in SQL, over the columns of `tasks`."""
        return " AND ".join(self._conditions()) or "true"

    def _conditions(self) -> Iterator[str]:
        if self.task_ids:
            yield f"task_id IN ({', '.join(map(quote, self.task_ids))})"
        if self.states:
            yield f"state IN ({', '.join(map(quote, self.states))})"
        if self.tenant is not None:
            yield f"tenant = {quote(self.tenant)}"
        if self.region is not None:
            yield f"array_has(regions, {quote(self.region)})"
        if self.held:
            yield "held"
        if self.name is not None:
            yield f"coalesce(name, task_id) LIKE {quote(like(self.name))}"
        if self.array is not None:
            yield f"starts_with(task_id, {quote(self.array + '[')})"
        if self.reason is not None:
            yield f"reason ILIKE {quote('%' + _literal(self.reason) + '%')}"
        if self.since is not None:
            yield f"changed_at >= TIMESTAMP {quote(self.since.isoformat())}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskList:
    """What was found."""

    by_state: dict[str, int]
    """How many there are in each state, by its name."""
    tasks: list[dict[str, Any]]
    """The first of them, with all columns of `tasks`."""
    held: int = 0
    """How many of those that wait are held."""

    @property
    def matching(self) -> int:
        """How many there are."""
        return sum(self.by_state.values())


def list_tasks(
    reader: TableReader, wanted: TaskFilter, order: TaskOrder = TaskOrder.CHANGED, *, turned: bool = False, limit: int
) -> TaskList:
    """Find tasks.

    Args:
        reader: of the tables, now or in the past.
        wanted: which.
        order: what comes first; the id decides between equals.
        turned: the other way round.
        limit: so many are given in full.
    """
    column, direction = _ORDERED[order]
    direction = _TURNED[direction] if turned else direction
    tables = _tables(wanted)
    found = " UNION ALL ".join(
        "SELECT state, count(*) AS n, sum(CASE WHEN held THEN 1 ELSE 0 END) AS held"
        f" {_from(table, wanted)} GROUP BY state"
        for table in tables
    )
    counts = reader.dicts(f"SELECT state, sum(n) AS n, sum(held) AS held FROM ({found}) GROUP BY state ORDER BY state")
    first = f"ORDER BY {column} {direction} NULLS LAST, task_id LIMIT {limit}"
    # First which, by the one or two columns that tell; then all there is about those: requests are long.
    keys = " UNION ALL ".join(f"SELECT task_id, {column} AS place {_from(table, wanted)}" for table in tables)
    listed = reader.dicts(f"SELECT task_id FROM ({keys}) {first.replace(column, 'place', 1)}")
    ids = ", ".join(quote(row["task_id"]) for row in listed)
    whole = " UNION ALL ".join(f"SELECT {_COLUMNS} FROM {table} WHERE task_id IN ({ids})" for table in tables)
    return TaskList(
        by_state={row["state"]: row["n"] for row in counts},
        tasks=reader.dicts(f"SELECT * FROM ({whole}) {first}") if listed else [],
        held=sum(row["held"] for row in counts if row["state"] == TaskState.WAITING),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """All the tasks that are meant."""

    task_ids: list[str]
    """In their order."""
    by_state: dict[str, int] = field(default_factory=dict)
    """How many there are in each state, by its name."""


def meant_tasks(reader: TableReader, wanted: TaskFilter) -> Meant:
    """Name all tasks that are meant; of an id that lives anew, the newer one."""
    states: dict[str, str] = {}
    for table in reversed(_tables(wanted)):
        states |= {
            row["task_id"]: row["state"] for row in reader.dicts(f"SELECT task_id, state {_from(table, wanted)}")
        }
    return Meant(task_ids=sorted(states), by_state=dict(sorted(Counter(states.values()).items())))


def _tables(wanted: TaskFilter) -> Sequence[str]:
    return ("tasks", "tasks_archive") if wanted.reads_archive else ("tasks",)


def _from(table: str, wanted: TaskFilter) -> str:
    return f"FROM {table} WHERE {wanted.condition()}"


def _literal(text: str) -> str:
    """Write what LIKE takes for itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def like(pattern: str) -> str:
    """Write a pattern with * and ? as LIKE does."""
    return _literal(pattern).replace("*", "%").replace("?", "_")
