"""Columns that a forecast is made from: what a value means, and which values are taken together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Buckets = npt.NDArray[np.int64]

UNKNOWN: Final = -1
"""Code of a name that was not there when the forecast was learnt."""


class ColumnKind(StrEnum):
    """What the values of a column are."""

    NAME = "name"
    """Codes of names; each is taken by itself."""
    SIZE = "size"
    """Amounts that are compared by their ratio: doubled, they are in the next bucket."""
    STEP = "step"
    """Amounts that are compared by their difference."""


class ForecastInputError(ValueError):
    """What a forecast was to be learnt from, or asked with, is no good; the text says what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastColumn:
    """One column.

    Attributes:
        name: as people know it.
        kind: of its values.
        unit: least value told apart (SIZE), or the width of a bucket (STEP).
        names: by code (NAME), sorted.
    """

    name: str
    kind: ColumnKind
    unit: float = 1.0
    names: tuple[str, ...] = ()

    def buckets(self, values: Numbers) -> Buckets:
        """Say which values are taken together, [N]."""
        if self.kind is ColumnKind.SIZE:
            return np.floor(np.log2(np.maximum(values, self.unit) / self.unit)).astype(np.int64)
        return np.floor(values / (self.unit if self.kind is ColumnKind.STEP else 1.0)).astype(np.int64)

    def said(self, value: float) -> str | float:
        """Say a value as people know it."""
        if self.kind is not ColumnKind.NAME:
            return float(value)
        code = int(value)
        return self.names[code] if 0 <= code < len(self.names) else "(unknown)"


def with_names(columns: Sequence[ForecastColumn], rows: Sequence[Mapping[str, Any]]) -> tuple[ForecastColumn, ...]:
    """Give columns of names the names that rows have."""
    return tuple(
        ForecastColumn(
            name=column.name,
            kind=column.kind,
            unit=column.unit,
            names=tuple(sorted({str(row[column.name]) for row in rows})),
        )
        if column.kind is ColumnKind.NAME
        else column
        for column in columns
    )


def encoded(columns: Sequence[ForecastColumn], rows: Sequence[Mapping[str, Any]]) -> Numbers:
    """Lay rows out as [N, columns].

    Raises:
        ForecastInputError: a value is missing, or no finite number.
    """
    laid = np.empty((len(rows), len(columns)))
    for at, column in enumerate(columns):
        codes = {name: code for code, name in enumerate(column.names)}
        try:
            laid[:, at] = (
                [codes.get(str(row[column.name]), UNKNOWN) for row in rows]
                if column.kind is ColumnKind.NAME
                else [row[column.name] for row in rows]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ForecastInputError(f"column {column.name}: {error}; every row needs a number there") from error
    check_finite(laid, "the rows")
    return laid


def check_finite(values: Numbers, what: str) -> None:
    """Refuse what is no number.

    Raises:
        ForecastInputError: there is one.
    """
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        at = tuple(int(one) for one in bad[0])
        raise ForecastInputError(f"{what} hold {values[at]} at {', '.join(map(str, at))}; allowed are finite numbers")
