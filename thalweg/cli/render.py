"""Print rows: as a table for people, as CSV or as one JSON document for programs."""

import base64
import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

import click

Row = Mapping[str, Any]

_WIDEST_CELL: Final = 48  # a request's JSON would push every other column off the screen; csv and json show it whole


def print_json(document: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(plain(document), ensure_ascii=False, allow_nan=False))


def print_csv(columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Print a header and the rows; nested values as JSON, nulls as nothing."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(_whole(plain(row[column])) for column in columns)


def print_table(columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Print aligned columns, numbers to the right; a cell too wide for the screen ends in an ellipsis."""
    texts = [[_short(_cell(plain(row[column]))) for column in columns] for row in rows]
    numeric = [
        all(isinstance(row[column], int | float | None) for row in rows) and not _is_flag(rows, column)
        for column in columns
    ]
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


def plain(value: object) -> Any:
    """Turn a value into what JSON can hold: times as UTC text, bytes as base64, NaN and infinity as null."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Decimal():
            return float(value)
        case bytes():
            return base64.b64encode(value).decode()
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case None | bool() | int() | str():
            return value
        case _:
            return str(value)  # intervals and the like


def _is_flag(rows: Sequence[Row], column: str) -> bool:
    return any(isinstance(row[column], bool) for row in rows)


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
