"""The latest row of each key by stamp: a pure fold that gives the same rows in whatever order its input arrives.

Rows of one key are put in a total order: the stamp (ms, counter, region), then the time of observation, then every
other column. The largest wins. So an older or a repeated sample never replaces a newer one, and two different samples
under the same stamp, which only a faulty writer sends, still give everybody the same row.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

STAMP: Final = ("stamp_ms", "stamp_counter", "stamp_region", "observed_at")


def latest(rows: Sequence[pa.Table], key: Sequence[str]) -> pa.Table:
    """Fold tables of one schema into the latest row per key, sorted by key.

    Args:
        rows: tables in any order, repetitions allowed; they carry the columns of STAMP.
        key: columns that identify a row.
    """
    together = pa.concat_tables(rows).combine_chunks()
    if together.num_rows == 0:
        return together
    others = [name for name in together.column_names if name not in {*key, *STAMP}]
    order = [(name, "ascending", "at_start") for name in (*key, *STAMP, *others)]
    ordered = together.take(pc.sort_indices(together, sort_keys=order))
    last_of_key = np.zeros(ordered.num_rows, dtype=bool)
    last_of_key[-1] = True
    for name in key:
        column = ordered[name].combine_chunks()
        changes = pc.not_equal(column.slice(0, len(column) - 1), column.slice(1))
        last_of_key[:-1] |= changes.to_numpy(zero_copy_only=False)
    return ordered.filter(pa.array(last_of_key))
