"""Rows in, fewer rows out: filter, window, figures.

A row is a mapping from fields to values; what it is of (a node, a link) is its `thing`, which whoever calls knows. In a
window each thing has one row, which leaves when the window ends. A change that must not wait (`at_once`) lets what was
gathered leave before it, and the new row with it. Nothing else is remembered, so what leaves follows from what came in
and from when.

Of samples somebody waits for what is new; of a table (`prepared_rows`) nobody does: there such a change only begins
another row of the same window.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Final

from thalweg.edge.declaration import Criterion, Declaration
from thalweg.edge.gathered import Gathered

Row = Mapping[str, Any]
Thing = Hashable
MS: Final = 1_000


class _Window:
    """One thing's rows since the window began, or since it was last told."""

    def __init__(self, declaration: Declaration) -> None:
        self._declaration = declaration
        self._last: dict[str, Any] = {}
        self._gathered: dict[str, Gathered] = {}
        self.waits = 0
        """Rows that have not left."""
        self.seen = False
        """Whether there was a row since the window began."""

    def add(self, row: Row) -> None:
        figures = self._declaration.figures
        for name, value in row.items():
            if name in figures and _is_number(value):
                if name not in self._gathered:
                    self._gathered[name] = Gathered(figures[name], self._declaration.error)
                self._gathered[name].add(value)
        self._last = dict(row)
        self.waits += 1
        self.seen = True

    def differs(self, row: Row) -> bool:
        """Whether a row says something that must not wait."""
        return any(row.get(name) != self._last.get(name) for name in self._declaration.at_once)

    def told(self) -> dict[str, Any]:
        """Tell what was gathered, and begin again."""
        row = {**self._last, **{name: gathered.told() for name, gathered in self._gathered.items()}}
        self._gathered, self.waits = {}, 0
        return row


class Preparation:
    """Carries one declaration out, for as long as it is the one."""

    def __init__(self, declaration: Declaration, *, live: bool = True) -> None:
        """Begin with nothing gathered.

        Args:
            declaration: to carry out.
            live: whether somebody waits: then a thing's first row, and a change that must not wait, leave at once.
        """
        self.declaration = declaration
        self._live = live
        self._windows: dict[Thing, _Window] = {}
        self._number: int | None = None
        """Of the window that is open."""

    def take(self, rows: Iterable[tuple[Thing, Row]], at_ms: int) -> Iterator[dict[str, Any]]:
        """Take rows that were observed at one moment, and yield what leaves now.

        Args:
            rows: each with what it is of.
            at_ms: the moment, milliseconds since 1970. A clock that was set back begins a window, too.
        """
        number = int(at_ms // (self.declaration.window_s * MS))
        if number != self._number:
            yield from self.rest()
            self._number = number
        for thing, row in rows:
            if not is_kept(row, self.declaration):
                continue
            window = self._windows.get(thing)
            if window is None:
                window = self._windows[thing] = _Window(self.declaration)
                is_new = True  # what was never told does not wait
            else:
                is_new = window.differs(row)
                if is_new and window.waits:
                    yield window.told()
            window.add(row)
            if is_new and self._live:
                yield window.told()

    def rest(self) -> Iterator[dict[str, Any]]:
        """Yield what waits, as at a window's end, and forget what has not been seen in it."""
        for thing, window in list(self._windows.items()):
            if window.waits:
                yield window.told()
            if window.seen:
                window.seen = False
            else:
                del self._windows[thing]


def is_kept(row: Row, declaration: Declaration) -> bool:
    """Tell whether a row satisfies all that is demanded of it."""
    return all(_satisfies(row, demand) for demand in declaration.keep)


def _satisfies(row: Row, demand: Criterion) -> bool:
    value = row.get(demand.field)
    if value is None:
        return True
    if demand.one_of is not None:
        return value in demand.one_of
    if not _is_number(value):
        return False
    return (demand.min is None or value >= demand.min) and (demand.max is None or value <= demand.max)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
