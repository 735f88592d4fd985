"""Print rows: as a table for people, as CSV or as one JSON document for programs."""

import csv
import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import click

from thalweg.query.plain import plain

Row = Mapping[str, Any]

_WIDEST_CELL: Final = 200
"""Where no screen says how much there is room for: a request's JSON would be a page; csv and json show it whole."""
_NARROWEST_CELL: Final = 12
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+Z")
_BETWEEN: Final = "  "


def print_json(document: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(plain(document), ensure_ascii=False, allow_nan=False))


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a header and the rows; nested values as JSON, nulls as nothing."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(_whole(plain(cell)) for cell in row)


def print_table(columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Print aligned columns of rows that name them; see `print_cells`."""
    print_cells(columns, [[row[column] for column in columns] for row in rows])


def print_cells(columns: Sequence[str], rows: Sequence[Sequence[object]], *, exact: bool = False) -> None:
    """Print aligned columns, numbers to the right; a cell too wide for the screen ends in an ellipsis.

    Args:
        columns: their names.
        rows: cells in the order of the columns.
        exact: show times and numbers as they are; else times to the second, and numbers with four digits.
    """
    whole = [[_on_one_line(_cell(plain(cell), exact)) for cell in row] for row in rows]
    numeric = [all(_is_number(row[index]) for row in rows) for index in range(len(columns))]
    wanted = [max([len(column), *(len(line[index]) for line in whole)]) for index, column in enumerate(columns)]
    widest = _widest_cell(wanted, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
    texts = [[_short(text, widest) for text in line] for line in whole]
    widths = [min(width, max(widest, len(column))) for width, column in zip(wanted, columns, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        )
        return _BETWEEN.join(padded).rstrip()

    click.echo(line(columns))
    click.echo(_BETWEEN.join("-" * width for width in widths))
    for cells in texts:
        click.echo(line(cells))


def _widest_cell(wanted: Sequence[int], screen: int | None) -> int:
    """Choose how wide a cell may be so that the columns fit the screen: the wide ones give way, down to some width."""
    if screen is None:
        return _WIDEST_CELL
    room = screen - len(_BETWEEN) * (len(wanted) - 1)
    for number, width in enumerate(sorted(wanted)):
        share = room // (len(wanted) - number)
        if width > share:
            return max(share, _NARROWEST_CELL)
        room -= width
    return max(wanted, default=_NARROWEST_CELL)


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


def _on_one_line(text: str) -> str:
    """Take out line ends and whatever else would move the cursor or change the terminal's mind."""
    return "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.split()))


def _short(text: str, widest: int) -> str:
    return text if len(text) <= widest else text[: widest - 1] + "…"
