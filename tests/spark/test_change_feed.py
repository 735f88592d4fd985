"""The ledger as a stream of changes, as docs/how-to/read-changes.md says: no row missing and none twice."""

import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.ledger_rows import ledger, submitted
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.query.sql.query import query
from thalweg.sync.delta import log_writer
from thalweg.sync.delta.upkeep import Upkeep
from thalweg.sync.ledger.ledger import COMPACT_FILES, Ledger

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

HOUR_S = 3_600
PAGE = PROJECT_ROOT / "docs" / "how-to" / "read-changes.md"


def commit(held: Ledger, batches: range) -> None:
    for batch in batches:
        held.commit(ledger(submitted(f"t{batch}"), batch_id=batch), "q", batch, offsets=batch)


def grow_old(table: Path, hours: float) -> None:
    then = time.time() - hours * HOUR_S
    for path in table.rglob("*"):
        if path.is_file() and path.stat().st_mtime > then:
            os.utime(path, (then, then))


def tidy(warehouse: Path, held: Ledger, hours: float) -> int:
    """Merge the small files, let hours pass, and do what upkeep does; return how many files went."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_writer, "system_clock", lambda: int((time.time() - hours * HOUR_S) * 1_000))
        assert held.compact() >= COMPACT_FILES
    grow_old(warehouse / "decisions", hours)
    upkeep = Upkeep(f"{warehouse}/decisions")
    upkeep.checkpoint()
    return upkeep.sweep(held.pending)


def documented(language: str, number: int, **names: str) -> str:
    """An example of the page, with its placeholders filled in."""
    code = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[number]
    for name, value in names.items():
        assert name in code, name
        code = code.replace(name, value)
    return str(code)


def stream(spark: "SparkSession", warehouse: Path, place: Path) -> Counter[str]:
    code = documented("python", 0, WAREHOUSE=str(warehouse), CHECKPOINT=f"{place}/checkpoint", COPY=f"{place}/copy")
    scope: dict[str, Any] = {"spark": spark}
    exec(code, scope)
    scope["query"].awaitTermination()
    return Counter(row.task_id for row in spark.read.parquet(f"{place}/copy").select("task_id").collect())


def test_a_stream_goes_on_after_a_night_in_which_its_files_were_merged(spark: "SparkSession", tmp_path: Path) -> None:
    warehouse = tmp_path / "tables"
    held = Ledger.claim(str(warehouse))
    commit(held, range(3))
    assert len(stream(spark, warehouse, tmp_path)) == 3

    commit(held, range(3, COMPACT_FILES + 5))
    assert tidy(warehouse, held, hours=23) == 0
    commit(held, range(COMPACT_FILES + 5, COMPACT_FILES + 8))
    found = stream(spark, warehouse, tmp_path)

    assert found == Counter({f"t{batch}": 1 for batch in range(COMPACT_FILES + 8)})


def test_whoever_was_away_for_longer_goes_on_by_position(spark: "SparkSession", tmp_path: Path) -> None:
    warehouse = tmp_path / "tables"
    held = Ledger.claim(str(warehouse))
    commit(held, range(COMPACT_FILES + 5))
    assert tidy(warehouse, held, hours=26) == COMPACT_FILES + 5
    after = documented("sql", 0, DRIVER_EPOCH="1", BATCH_ID=str(COMPACT_FILES), ROW="0")
    assert [row["task_id"] for row in query(after, str(warehouse)).dicts()] == [
        f"t{batch}" for batch in range(COMPACT_FILES + 1, COMPACT_FILES + 5)
    ]
    anew = tmp_path / "anew"
    assert len(stream(spark, warehouse, anew)) == COMPACT_FILES + 5
