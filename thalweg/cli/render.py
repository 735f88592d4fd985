"""Print rows: as a table for people, as CSV or as one JSON document for programs."""

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import click

from thalweg.query.plain import plain

Row = Mapping[str, Any]

_WIDEST_CELL: Final = 48  # a request's JSON would push every other column off the screen; csv and json show it whole


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


def print_cells(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns, numbers to the right; a cell too wide for the screen ends in an ellipsis."""
    texts = [[_short(_cell(plain(cell))) for cell in row] for row in rows]
    numeric = [all(_is_number(row[index]) for row in rows) for index in range(len(columns))]
    widths = [max([len(column), *(len(line[index]) for line in texts)]) for index, column in enumerate(columns)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    click.echo(line(columns))
    click.echo("  ".join("-" * width for width in widths))
    for cells in texts:
        click.echo(line(cells))


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cell(value: Any) -> str:
    match value:
        case float():
            return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.2f}"
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


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _WIDEST_CELL else text[: _WIDEST_CELL - 1] + "…"
