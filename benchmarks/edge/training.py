"""`bench edge-training`: a published table of requests a second, prepared as training data before it leaves a region.

The table has a figure about every minute of each of some containers (`demand/genai_2026_qps.csv.gz`). Figures are held
against those of the groups themselves.
"""

import math
import time
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pyarrow import csv, parquet

from thalweg.benchmarks.placement.real_graph import published_folder
from thalweg.edge.declaration import Declaration, read_declaration
from thalweg.federation.prepared_file import prepare_file
from thalweg.stack.machine import describe

_THING = ("request_type", "container_ip")


def measure(error: float = 0.01) -> dict[str, Any]:
    """Measure windows of five minutes and of an hour, with an exact figure and with a quantile.

    Args:
        error: declared, of the quantile.
    """
    source = published_folder() / "demand" / "genai_2026_qps.csv.gz"
    found: dict[str, Any] = {}
    with TemporaryDirectory() as scratch:
        table = csv.read_csv(source)
        parquet.write_table(table, Path(scratch) / "in.parquet")
        for window_s in (300, 3_600):
            for figure in ("mean", "p95"):
                declared = read_declaration(
                    {"revision": 1, "window_s": window_s, "error": error, "figures": {"value": figure},
                     "thing": list(_THING), "time": {"field": "timestamp_anon", "unit": "s"}}
                )  # fmt: skip
                found[f"window_{window_s}s_{figure}"] = _prepared(table.to_pylist(), declared, source, Path(scratch))
    return {"machine": describe(), **found}


def _prepared(rows: list[dict[str, Any]], declared: Declaration, source: Path, scratch: Path) -> dict[str, Any]:
    began = time.process_time()
    told = prepare_file(source, scratch / "out.csv.gz", declared)
    spent = time.process_time() - began
    columnar = prepare_file(scratch / "in.parquet", scratch / "out.parquet", declared)
    left = parquet.read_table(scratch / "out.parquet").to_pylist()
    return {
        "rows_in": told.rows_in,
        "rows_out": told.rows_out,
        "csv_gz_bytes_in": told.bytes_in,
        "csv_gz_bytes_out": told.bytes_out,
        "parquet_bytes_in": columnar.bytes_in,
        "parquet_bytes_out": columnar.bytes_out,
        "largest_relative_error": _largest_error(rows, left, declared),
        "processor_us_a_row": round(1e6 * spent / told.rows_in, 1),
    }


def _largest_error(rows: list[dict[str, Any]], left: list[dict[str, Any]], declared: Declaration) -> float:
    groups: dict[Any, list[float]] = defaultdict(list)

    def group(row: dict[str, Any]) -> Any:
        return *(row[name] for name in _THING), row["timestamp_anon"] // declared.window_s

    for row in rows:
        groups[group(row)].append(row["value"])
    assert len(left) == len(groups)
    worst = 0.0
    for row in left:
        values = sorted(groups[group(row)])
        if declared.figures["value"] == "mean":
            true = float(sum(map(Fraction, values)) / len(values))
        else:
            true = values[max(1, math.ceil(0.95 * len(values))) - 1]
        worst = max(worst, abs(row["value"] - true) / true if true else abs(row["value"]))
    return worst
