"""The order of stamps over whole columns: which of a million samples are newer than what a table already holds.

Same order as `stamps.Hlc`, without a Python object per row. Regions are only compared where milliseconds and counter
tie, which within one region's telemetry is never.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class StampColumns(msgspec.Struct, frozen=True, kw_only=True):
    """The three ordering parts of n stamps; `region` holds n Python strings."""

    ms: Int64s
    counter: Int64s
    region: npt.NDArray[np.object_]

    def __len__(self) -> int:
        """Return n."""
        return len(self.ms)


def stamp_columns(ms: Any, counter: Any, region: Any) -> StampColumns:
    """Build the columns from numpy arrays, Arrow arrays or plain sequences of equal length.

    Raises:
        ValueError: The lengths differ.
    """
    columns = StampColumns(ms=_int64s(ms), counter=_int64s(counter), region=_strings(region))
    if not len(columns.ms) == len(columns.counter) == len(columns.region):
        raise ValueError(
            f"stamp columns of {len(columns.ms)}, {len(columns.counter)} and {len(columns.region)} rows; "
            "they describe the same rows and must be equally long"
        )
    return columns


def newer_than(left: StampColumns, right: StampColumns) -> Bools:
    """Say for each row whether the left stamp is newer than the right one."""
    newer: Bools = (left.ms > right.ms) | ((left.ms == right.ms) & (left.counter > right.counter))
    ties = np.flatnonzero((left.ms == right.ms) & (left.counter == right.counter))
    if len(ties):
        newer[ties] = left.region[ties] > right.region[ties]
    return newer


def latest_rows(entities: npt.NDArray[np.int64] | pa.Array | pa.ChunkedArray, stamps: StampColumns) -> Int64s:
    """Return, ascending, the row of the newest stamp of each entity; of equal stamps the first row.

    Args:
        entities: Integer codes, or Arrow strings (dictionary-encoded here).
        stamps: As many rows.
    """
    codes = _codes(entities)
    if len(codes) != len(stamps):
        raise ValueError(f"{len(codes)} entities but {len(stamps)} stamps; they describe the same rows")
    if not len(codes):
        return np.empty(0, dtype=np.int64)
    # Last key first in lexsort: entity, then ms, counter, region, and the earliest row last among equals.
    row = np.arange(len(codes), dtype=np.int64)
    order = np.lexsort((-row, _ranks(stamps.region), stamps.counter, stamps.ms, codes))
    ordered = codes[order]
    last_of_entity = np.append(ordered[1:] != ordered[:-1], True)
    return np.sort(order[last_of_entity]).astype(np.int64)


def _codes(entities: Any) -> Int64s:
    if isinstance(entities, pa.ChunkedArray):
        entities = entities.combine_chunks()
    if isinstance(entities, pa.Array):
        encoded = entities if pa.types.is_dictionary(entities.type) else entities.dictionary_encode()
        return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)
    return np.asarray(entities, dtype=np.int64)


def _ranks(regions: npt.NDArray[np.object_]) -> Int64s:
    """Number the regions in their order; a column of one region costs one pass."""
    distinct = sorted(set(regions.tolist()))
    if len(distinct) == 1:
        return np.zeros(len(regions), dtype=np.int64)
    rank = {region: number for number, region in enumerate(distinct)}
    return np.fromiter((rank[region] for region in regions.tolist()), dtype=np.int64, count=len(regions))


def _int64s(values: Any) -> Int64s:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        values = values.to_numpy() if isinstance(values, pa.ChunkedArray) else values.to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.int64)


def _strings(values: Any) -> npt.NDArray[np.object_]:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        values = values.to_pylist()
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array
