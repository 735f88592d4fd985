"""The rows of a file, prepared as samples are, by the same declaration: filter, window, figures.

A thing's rows of one window become one row; where a field that must not wait changes (`at_once`, as a label), what was
before the change and what is after it are two. Exact figures are those of the rows, in whatever order they lie, and
quantiles are within the declared error.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from thalweg.edge.declaration import Declaration, DeclarationError, Moment
from thalweg.edge.preparation import Preparation, Row, is_kept

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_FACTOR: Final = {"s": 1_000, "ms": 1}
_LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999. As many milliseconds before 1970 are the earliest that is taken."""
MOST: Final = 1e300
"""Largest size of a number of a figure: sums of such, and the edges of a sketch's buckets, are still numbers."""


class RowError(ValueError):
    """A row cannot be prepared as it is declared; the text names it."""


def checked_for_rows(declaration: Declaration, fields: Iterable[str]) -> Declaration:
    """Return the declaration as it is carried out for rows that have these fields.

    Raises:
        DeclarationError: it speaks of a field that there is not, or of figures without windows.
    """
    known = list(fields)
    named = [*(one.field for one in declaration.keep), *declaration.figures, *declaration.at_once, *declaration.thing]
    if declaration.time is not None:
        named.append(declaration.time.field)
    elif declaration.figures or declaration.at_once or declaration.thing:
        raise DeclarationError("figures, at_once and thing are of windows: allowed where `time` names a field")
    if strangers := [name for name in named if name not in known]:
        raise DeclarationError(f"field {strangers[0]!r}: the file has {', '.join(known)}")
    keys = {*declaration.thing, *([] if declaration.time is None else [declaration.time.field])}
    if both := sorted(keys & declaration.figures.keys()):
        raise DeclarationError(f"{both[0]} is a figure, and thing or time: allowed is one of them")
    return declaration


def prepared(declaration: Declaration, rows: Iterable[tuple[int, Row]]) -> Iterator[dict[str, Any]]:
    """Prepare rows.

    Args:
        declaration: checked for them.
        rows: each with its number, for words; ascending by time, where one is declared.

    Yields:
        What leaves, window by window.

    Raises:
        RowError: a row has no time, or a number of a figure is not finite or larger than `MOST`; or times in text are
            partly with and partly without a zone.
    """
    if declaration.time is None:
        yield from (dict(row) for _, row in rows if is_kept(row, declaration))
        return
    preparation = Preparation(declaration, live=False)
    first: dict[bool, tuple[int, str]] = {}
    """The first time in text with a zone, and the first without one."""
    for number, row in rows:
        if not is_kept(row, declaration):
            continue
        for name in declaration.figures:
            if isinstance(value := row.get(name), float) and not abs(value) <= MOST:
                raise RowError(
                    f"row {number}: {name} is {value}; allowed are finite numbers up to {MOST:g} where a figure is "
                    "declared, and none at all: `keep` with a least or largest value leaves such rows out"
                )
        at = row.get(declaration.time.field)
        at_ms = moment_ms(at, declaration.time, number)
        if isinstance(at, str):
            first.setdefault(datetime.fromisoformat(at).tzinfo is not None, (number, at))
            if len(first) > 1:
                (bare, text), (zoned, other) = first[False], first[True]
                raise RowError(
                    f"row {bare}: {declaration.time.field} is {text!r}, without a zone, and in row {zoned} {other!r}, "
                    "with one; allowed is a zone in every row, or in none (then it is UTC)"
                )
        yield from preparation.take([(tuple(row.get(name) for name in declaration.thing), row)], at_ms)
    yield from preparation.rest()


def moment_ms(value: Any, moment: Moment, number: int) -> int:
    """Read when a row was observed, in whole milliseconds since 1970.

    Raises:
        RowError: that is no time.
    """
    seen = value
    if isinstance(value, str):
        with suppress(ValueError):  # said below, as of everything that is no time
            value = datetime.fromisoformat(value)
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, datetime):
        return ((value if value.tzinfo is not None else value.replace(tzinfo=UTC)) - _EPOCH) // _MS
    if isinstance(value, int | float) and not isinstance(value, bool):
        factor = _FACTOR[moment.unit]
        if abs(value) <= _LAST_MS / factor:
            return math.floor(value * factor)
        raise RowError(
            f"row {number}: {moment.field} is {value!r}; allowed are numbers up to {_LAST_MS // factor} "
            f"(the year 9999, in {moment.unit}), in every row that is kept"
        )
    raise RowError(
        f"row {number}: {moment.field} is {seen!r}; allowed is a time, in every row that is kept: a number in "
        f"{moment.unit}, or as 2024-01-31T12:00:00Z"
    )


def named_figures(declaration: Declaration) -> Mapping[str, str]:
    """Say of each figure how it is told: exactly, or by a sketch and how far off at most."""
    sketched = f"within {declaration.error:g} of the true one"
    return {
        name: f"{figure}, {sketched if figure[0] == 'p' else 'exact'}" for name, figure in declaration.figures.items()
    }
