"""The tutorial of forests that vote: its commands as the page shows them, by spark-submit, with fewer trees."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

pytest.importorskip("sklearn", reason="the extra `learning` is not installed")

from tests.patience import PATIENCE_S
from thalweg.bootstrap.jars import ensure_jars
from thalweg.conf.environment import PROJECT_ROOT, find_java
from thalweg.federation.local_samples import read_samples
from thalweg.sync.delta.contracts import NODES
from thalweg.sync.delta.store import append, open_or_create

pytestmark = pytest.mark.acceptance

PAGE: Final = (PROJECT_ROOT / "docs" / "tutorial" / "vote-by-region.md").read_text(encoding="utf-8")
EXAMPLES: Final = PROJECT_ROOT / "docs" / "tutorial" / "examples"
REGIONS: Final = ("bern", "oslo", "porto")
GOAL: Final = 0.91


def shown(program: str) -> str:
    """The page's snippet that runs a program."""
    (snippet,) = [text for text in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL) if program in text]
    return str(snippet)


def run(snippet: str, warehouse: Path) -> str:
    """Type a snippet in the clone's folder, with this Python's programs first."""
    environ = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "JAVA_HOME": str(find_java().home),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "WAREHOUSE": str(warehouse),
        "FOREST": str(warehouse.parent / "forest"),
    }
    done = subprocess.run(
        ["bash", "-eu", "-c", snippet],
        cwd=PROJECT_ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    return done.stdout


def write_nodes(warehouse: Path, *states: str) -> None:
    common = {"node_id": "desk", "cpus": 2.0, "observed_at": 1, "stamp_ms": 1, "stamp_counter": 0}
    named = zip((*REGIONS, "vienna"), states, strict=True)
    rows = [{"region": region, "state": state, **common} for region, state in named]
    append(open_or_create(NODES, str(warehouse)), pa.Table.from_pylist(rows, schema=NODES.schema))


def rows_of(table: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = DeltaTable(str(table)).to_pyarrow_table().to_pylist()
    return rows


def test_forests_of_three_regions_vote_as_the_page_says(tmp_path: Path) -> None:
    ensure_jars(find_java())
    warehouse = tmp_path / "warehouse"
    write_nodes(warehouse, "ready", "ready", "ready", "gone")
    assert "bern, oslo, porto" in run(shown("deal_digits.py"), warehouse)
    printed = run(f'{shown("vote_by_region.py").rstrip()} --trees 15 --save "$FOREST"\n', warehouse)

    digits = rows_of(warehouse / "digits")
    told = {row["who"]: row for row in rows_of(warehouse / "digit_accuracy")}
    assert set(told) == {*REGIONS, "all regions together", "all images in one place"}
    for region in REGIONS:
        assert told[region]["images"] == sum(row["region"] == region for row in digits)
    together, central = told["all regions together"], told["all images in one place"]
    assert together["images"] == central["images"] == sum(not row["held_out"] for row in digits)
    assert together["accuracy"] >= GOAL
    assert together["accuracy"] > max(told[region]["accuracy"] for region in REGIONS)
    assert f"{together['accuracy']:.4f}" in printed

    answers = rows_of(warehouse / "digit_answers")
    held_out = {row["image"]: row["label"] for row in digits if row["held_out"]}
    assert {row["image"]: row["label"] for row in answers} == held_out
    assert all(sum(row["weight"]) == together["images"] for row in answers), "each forest votes once"
    right = np.mean([row["prediction"] == row["label"] for row in answers])
    assert right == pytest.approx(together["accuracy"])
    assert all(row["prediction"] == int(np.argmax(row["weight"])) for row in answers)

    why = run(shown("explain-model"), warehouse)
    assert f"64 inputs, 15 trees, 10 classes; accuracy {central['accuracy']:.1%} of 359 samples" in why
    assert "Points of accuracy lost" in why and "It would be named" in why


def test_every_image_that_is_not_held_out_is_one_regions_in_tables_and_files(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("deal_digits", EXAMPLES / "deal_digits.py")
    assert spec is not None and spec.loader is not None
    deal_digits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(deal_digits)
    table = deal_digits.dealt_digits(REGIONS, 1.0, 0)
    assert table.equals(deal_digits.dealt_digits(REGIONS, 1.0, 0))
    rows = table.to_pylist()
    assert all((row["region"] is None) == row["held_out"] for row in rows)
    assert {row["region"] for row in rows} == {*REGIONS, None}
    assert sum(row["held_out"] for row in rows) == 359
    deal_digits.write_files(table, tmp_path)
    for name in (*REGIONS, "held-out"):
        samples = read_samples(tmp_path / f"{name}.npz")
        assert samples.y.size == sum((row["region"] or "held-out") == name for row in rows)
        assert samples.x.shape[1] == 64 and samples.x.max() == 1
