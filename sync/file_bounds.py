"""Statistics of a data file as Delta keeps them: rows, and per column the smallest, the largest and the missing values.

Readers skip files by them, so they may be wide but never too narrow.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

# Longer strings are left out: a shortened one would be no upper bound.
_LONGEST_CHARS: Final = 64
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBounds:
    """What is known of a file's rows."""

    rows: int
    lowest: Mapping[str, Any]
    highest: Mapping[str, Any]
    nulls: Mapping[str, int]

    def to_json(self) -> str:
        """The form of the Delta protocol ("Per-file Statistics"): timestamps in milliseconds, upper ones rounded up."""
        return json.dumps(
            {
                "numRecords": self.rows,
                "minValues": {name: _plain(value) for name, value in self.lowest.items()},
                "maxValues": {name: _plain(value, up=True) for name, value in self.highest.items()},
                "nullCount": dict(self.nulls),
            }
        )


def bounds_of(rows: pa.Table, columns: Sequence[str]) -> FileBounds:
    """Take the bounds of some columns; one without values has none."""
    lowest: dict[str, Any] = {}
    highest: dict[str, Any] = {}
    for name in columns:
        found = pc.min_max(rows[name]).as_py()
        low, high = found["min"], found["max"]
        if low is not None and not (isinstance(low, str) and max(len(low), len(high)) > _LONGEST_CHARS):
            lowest[name], highest[name] = low, high
    return FileBounds(
        rows=rows.num_rows, lowest=lowest, highest=highest, nulls={name: rows[name].null_count for name in columns}
    )


def merged(parts: Sequence[FileBounds]) -> FileBounds:
    """Bounds of files together; a column that one file says nothing about gets none.

    A column that is missing throughout one file has no bounds there, so the merged file has none for it either:
    wider than needed, never too narrow.
    """
    bounded = set.intersection(*(set(part.lowest) & set(part.highest) for part in parts))
    counted = set.intersection(*(set(part.nulls) for part in parts))
    return FileBounds(
        rows=sum(part.rows for part in parts),
        lowest={name: min(part.lowest[name] for part in parts) for name in sorted(bounded)},
        highest={name: max(part.highest[name] for part in parts) for name in sorted(bounded)},
        nulls={name: sum(part.nulls[name] for part in parts) for name in sorted(counted)},
    )


def _plain(value: Any, *, up: bool = False) -> Any:
    if isinstance(value, datetime):
        ms = (value - _EPOCH) // _MILLISECOND
        if up and value > _EPOCH + ms * _MILLISECOND:
            ms += 1
        return (_EPOCH + ms * _MILLISECOND).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value
