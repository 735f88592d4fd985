"""Statistics of a data file as Delta keeps them: rows, and the bounds of some columns: of all of them, or of none.

Readers skip files by them, so they may be wide but never too narrow, and never half there: `deltalake` gives pyarrow a
column whose bounds are missing as one that holds nothing.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    """What is known of a file's rows: the three mappings have the same columns."""

    rows: int
    lowest: Mapping[str, Any] = field(default_factory=dict)
    highest: Mapping[str, Any] = field(default_factory=dict)
    nulls: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """The form of the Delta protocol ("Per-file Statistics"): timestamps in milliseconds, upper ones rounded up."""
        if not self.lowest:
            return json.dumps({"numRecords": self.rows})
        return json.dumps(
            {
                "numRecords": self.rows,
                "minValues": {name: _plain(value) for name, value in self.lowest.items()},
                "maxValues": {name: _plain(value, up=True) for name, value in self.highest.items()},
                "nullCount": dict(self.nulls),
            }
        )


def bounds_of(rows: pa.Table, columns: Sequence[str]) -> FileBounds:
    """Take the bounds of columns; where one of them has none, of none."""
    found = {name: _ends(rows[name]) for name in columns}
    if any(ends is None for ends in found.values()):
        return FileBounds(rows=rows.num_rows)
    ends = {name: ends for name, ends in found.items() if ends is not None}
    return FileBounds(
        rows=rows.num_rows,
        lowest={name: low for name, (low, _) in ends.items()},
        highest={name: high for name, (_, high) in ends.items()},
        nulls={name: rows[name].null_count for name in columns},
    )


def merged(parts: Sequence[FileBounds]) -> FileBounds:
    """Bounds of parts together; none if a part has none."""
    rows = sum(part.rows for part in parts)
    parts = [part for part in parts if part.rows]
    columns = sorted(parts[0].lowest) if parts else []
    if not columns or any(sorted(part.lowest) != columns for part in parts):
        return FileBounds(rows=rows)
    return FileBounds(
        rows=rows,
        lowest={name: min(part.lowest[name] for part in parts) for name in columns},
        highest={name: max(part.highest[name] for part in parts) for name in columns},
        nulls={name: sum(part.nulls[name] for part in parts) for name in columns},
    )


def _ends(column: pa.ChunkedArray) -> tuple[Any, Any] | None:
    """Smallest and largest value; None where there is none, or none that can be written down."""
    try:
        found = pc.min_max(column).as_py()
    except (OverflowError, ValueError):  # a moment beyond the years that Python knows
        return None
    low, high = found["min"], found["max"]
    if low is None or (isinstance(low, str) and max(len(low), len(high)) > _LONGEST_CHARS):
        return None
    # JSON has no infinity; and readers disagree on whether NaN is larger than a number.
    if isinstance(low, float) and not (math.isfinite(low) and math.isfinite(high) and not _has_nan(column)):
        return None
    return low, high


def _has_nan(column: pa.ChunkedArray) -> bool:
    return bool(pc.any(pc.is_nan(column)).as_py())


def _plain(value: Any, *, up: bool = False) -> Any:
    if isinstance(value, datetime):
        ms = (value - _EPOCH) // _MILLISECOND
        if up and value > _EPOCH + ms * _MILLISECOND:
            ms += 1
        return (_EPOCH + ms * _MILLISECOND).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value
