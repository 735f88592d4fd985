"""Print rows: as a table for people, as CSV or as one JSON document for programs.

On a screen no name takes more than its share of a line, or one long id would be all that anybody sees. In a pipe there
is no line to share, and who reads it, a program or a file, may go on with the ids: a table there has them whole.
"""

import csv
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import click

from thalweg.cli.terminal.cell_width import columns_of, cut_end, cut_middle
from thalweg.cli.terminal.words import Say
from thalweg.query.sql.plain import plain

Row = Mapping[str, Any]


class Fit(Enum):
    """What a column does where the screen is narrow."""

    KEEP = auto()
    """It stays as it is: names, states and numbers. Of a name wider than its share of a screen the middle goes."""
    CUT = auto()
    """It ends in an ellipsis; csv and json show it whole."""
    WRAP = auto()
    """It goes on in the lines below."""
    GO = auto()
    """It is left out before any other would be cut beyond reading, the last one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table for people."""

    name: str
    """Of the value in each row."""
    title: str = ""
    """Its heading; empty takes the name."""
    say: Say | None = None
    """Puts a value into words; None shows numbers with four digits and times to the second."""
    fit: Fit | None = None
    """None keeps numbers and cuts what else there is."""
    right: bool | None = None
    """Whether it stands at the right; None: where all values are numbers."""
    colour: Callable[[Any], str | None] | None = None
    """Names the colour of a value, as click does; None has none."""


STATE_COLOURS: Final[Mapping[str, str]] = {
    # Only what somebody should look at, or may be glad of; the rest is as the terminal writes.
    **dict.fromkeys(("running", "succeeded", "heard", "taken", "optimal"), "green"),
    **dict.fromkeys(("waiting", "held", "feasible", "draining", "drained"), "yellow"),
    **dict.fromkeys(("failed", "lost", "silent", "refused"), "red"),
    **dict.fromkeys(("cancelled", "gone"), "bright_black"),
}

_WIDEST_CELL: Final = 200
"""Where no screen says how much there is room for: a request's JSON would be a page; csv and json show it whole."""
_NARROWEST_CELL: Final = 12
_NAME: Final = 40
"""So wide a name may be on a screen that is twice as wide: a UUID is."""
_DELETE: Final = 0x7F
_JOINERS: Final = frozenset("\u200c\u200d")
"""They are seen in what they join, and turn nothing round."""
_OBEYED: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What a terminal might obey, and JSON lets through: below a blank it lets through nothing."""
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+Z")
_BETWEEN: Final = "  "


def state_colour(state: Any) -> str | None:
    """Name the colour of a state."""
    return STATE_COLOURS.get(str(state))


def print_json(document: object) -> None:
    """Print one JSON document; what a terminal might obey is escaped, which means the same to who reads it."""
    text = json.dumps(plain(document), ensure_ascii=False, allow_nan=False)
    click.echo(_OBEYED.sub(lambda found: _escaped(found[0]), text))


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a header and the rows; nested values as JSON, nulls as nothing."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(_whole(plain(cell)) for cell in row)


def print_table(columns: Sequence[str | Column], rows: Iterable[Row]) -> None:
    """Print aligned columns of rows that name them; of names alone the first one is never cut."""
    described = [_described(column, first=index == 0) for index, column in enumerate(columns)]
    _print(described, [[row[column.name] for column in described] for row in rows], exact=False)


def print_cells(columns: Sequence[str], rows: Sequence[Sequence[object]], *, exact: bool = False) -> None:
    """Print aligned columns, numbers to the right; a cell too wide for the screen ends in an ellipsis.

    Args:
        columns: their names.
        rows: cells in the order of the columns.
        exact: show times and numbers as they are; else times to the second, and numbers with four digits.
    """
    _print([Column(name=name) for name in columns], rows, exact=exact)


def _described(column: str | Column, first: bool) -> Column:
    if isinstance(column, Column):
        return column
    return Column(name=column, fit=Fit.KEEP if first else None)


def _print(columns: Sequence[Column], rows: Sequence[Sequence[object]], *, exact: bool) -> None:
    numeric = [all(_is_number(row[index]) for row in rows) for index in range(len(columns))]
    right = [number if column.right is None else column.right for column, number in zip(columns, numeric, strict=True)]
    fits = [column.fit or (Fit.KEEP if number else Fit.CUT) for column, number in zip(columns, numeric, strict=True)]
    texts = [[_text(column, cell, exact) for column, cell in zip(columns, row, strict=True)] for row in rows]
    titles = [column.title or column.name for column in columns]
    screen = _screen()
    wanted = [max(map(columns_of, (title, *column))) for title, *column in zip(titles, *texts, strict=True)]
    names = [fit is Fit.KEEP and not at_right for fit, at_right in zip(fits, right, strict=True)]
    if screen is not None:
        share = widest_name(screen)
        wanted = [min(width, share) if name else width for width, name in zip(wanted, names, strict=True)]
    widths = fitted(wanted, fits, screen)
    shown = [index for index, width in enumerate(widths) if width is not None]

    def line(cells: Sequence[str], painted: Sequence[str | None]) -> str:
        pieces = []
        for index in shown:
            cell, width = cells[index], widths[index] or 0
            blanks = " " * (width - columns_of(cell))
            padded = f"{blanks}{cell}" if right[index] else f"{cell}{blanks}"
            pieces.append(_painted(padded.rstrip() if index == shown[-1] else padded, painted[index]))
        return _BETWEEN.join(pieces).rstrip()

    plainly: list[str | None] = [None] * len(columns)
    click.echo(line([cut_end(title, width or 0) for title, width in zip(titles, widths, strict=True)], plainly))
    click.echo(_BETWEEN.join("-" * (widths[index] or 0) for index in shown))
    for row, cells in zip(rows, texts, strict=True):
        colours = [column.colour(cell) if column.colour else None for column, cell in zip(columns, row, strict=True)]
        parts = [_lines(cell, fit, width or 0) for cell, fit, width in zip(cells, fits, widths, strict=True)]
        for number in range(max(len(parts[index]) for index in shown)):
            click.echo(line([part[number] if number < len(part) else "" for part in parts], colours))
    if missing := [titles[index] for index, width in enumerate(widths) if width is None]:
        click.echo(f"(no room for: {', '.join(missing)}; --json has all)")


def fitted(wanted: Sequence[int], fits: Sequence[Fit], screen: int | None) -> list[int | None]:
    """Choose the columns' widths; None leaves one out.

    Args:
        wanted: the widest text of each.
        fits: what each does where room is short.
        screen: characters in a line; None where nobody looks at one.
    """
    if screen is None:
        return [min(width, _WIDEST_CELL) if fit is Fit.CUT else width for width, fit in zip(wanted, fits, strict=True)]
    shown = list(range(len(wanted)))
    while True:
        elastic = [wanted[index] for index in shown if fits[index] in (Fit.CUT, Fit.WRAP)]
        kept = sum(wanted[index] for index in shown if fits[index] in (Fit.KEEP, Fit.GO))
        room = screen - len(_BETWEEN) * (len(shown) - 1) - kept
        may_go = [index for index in shown if fits[index] is Fit.GO]
        if not may_go or sum(min(width, _NARROWEST_CELL) for width in elastic) <= room:
            widest = _widest_cell(elastic, room)
            return [
                None if index not in shown else min(width, widest) if fit in (Fit.CUT, Fit.WRAP) else width
                for index, (width, fit) in enumerate(zip(wanted, fits, strict=True))
            ]
        shown.remove(may_go[-1])


def widest_name(screen: int) -> int:
    """Choose how wide a name may be on a screen: a third of it, of a narrow one more, and never all."""
    return min(max(screen // 3, _NAME), screen * 2 // 3)


def _widest_cell(wanted: Sequence[int], room: int) -> int:
    """Choose how wide a cell may be so that the columns fit the room: the wide ones give way, down to some width."""
    for number, width in enumerate(sorted(wanted)):
        share = room // (len(wanted) - number)
        if width > share:
            return max(share, _NARROWEST_CELL)
        room -= width
    return max(wanted, default=_NARROWEST_CELL)


def _screen() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def in_colour() -> bool:
    """Tell whether colours are wanted: a terminal that has them looks, and nobody said no (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _painted(text: str, colour: str | None) -> str:
    return click.style(text, fg=colour) if colour and text and in_colour() else text


def _text(column: Column, cell: object, exact: bool) -> str:
    return on_one_line(column.say(cell) if column.say else _cell(plain(cell), exact))


def _lines(text: str, fit: Fit, width: int) -> list[str]:
    if fit is Fit.WRAP and len(text) > width:
        return textwrap.wrap(text, width, break_on_hyphens=False)
    return [cut_middle(text, width) if fit is Fit.KEEP else cut_end(text, width)]


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cell(value: Any, exact: bool) -> str:
    match value:
        case float() if exact:
            return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.2f}"
        case float():
            return f"{value:.4g}" if abs(value) < 1e3 else f"{value:,.0f}"
        case str() if not exact and (time := _TIME.fullmatch(value)):
            return f"{time.group(1)}Z"
        case list() if all(isinstance(item, str) for item in value):
            return ", ".join(value)
        case _:
            return _whole(value)


def _whole(value: Any) -> str:
    """Write a value without losing any of it."""
    match value:
        case None:
            return ""
        case str():
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)


def on_one_line(text: str) -> str:
    """Take out line ends, and show whatever else would move the cursor or change the terminal's mind."""
    return seen(" ".join(text.split()))


def seen(text: str) -> str:
    r"""Show what a terminal would obey (control characters, direction marks) as JSON writes it: `\u202e`."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in _JOINERS else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if ord(character) > _DELETE else f"\\u{ord(character):04x}"
