"""Where datasets lie: records whose key begins with `dataset/`, as placement reads them.

Such a record holds `copies` (an add-wins set of regions), `size_gb` and `version`. It is written like any record, by a
replica or by a plain producer; a dataset that moves changes the next plan.
"""

import json
import math
from collections.abc import Iterable
from typing import Final

from deltalake import DeltaTable

from thalweg.scheduling.world.facts import DatasetFacts
from thalweg.sync.delta.engine import select

PREFIX: Final = "dataset/"
# "0" follows "/": dataset0 is the first key that no longer begins with the prefix.
DATASETS_SQL: Final = f"SELECT key, value FROM records WHERE key >= '{PREFIX}' AND key < 'dataset0'"


def read_dataset_facts(records: DeltaTable) -> dict[str, DatasetFacts]:
    """Read the datasets from the table `records`; files and row groups without any are skipped."""
    rows = select(records, "records", DATASETS_SQL)
    return dataset_facts(zip(rows["key"].to_pylist(), rows["value"].to_pylist(), strict=True))


def dataset_facts(rows: Iterable[tuple[str, str | None]]) -> dict[str, DatasetFacts]:
    """Read datasets from keys and JSON values.

    What is no dataset is left out: deleted, without a copy, or with a size that is no number. Placement then treats the
    dataset as unknown, which its plan says.
    """
    found = {}
    for key, text in rows:
        value = json.loads(text) if text and key.startswith(PREFIX) else None
        if not isinstance(value, dict):
            continue
        copies, size_gb = value.get("copies"), value.get("size_gb", 0)
        if not isinstance(copies, list) or not copies or not all(isinstance(region, str) for region in copies):
            continue
        if isinstance(size_gb, bool) or not isinstance(size_gb, int | float) or not 0 <= size_gb < math.inf:
            continue
        found[key.removeprefix(PREFIX)] = DatasetFacts(regions=tuple(sorted(copies)), size_gb=float(size_gb))
    return found
