"""The tables derived from the ledger: equal to a fold of it, also after a disk that was full for a while."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from jobs.place_tables import PlaceTables
from jobs.runtime import Stop
from sync.appender import Appender
from sync.delta_store import table_uri
from sync.folds import fold_ledger
from sync.ledger import Ledger
from tests.ledger_rows import assigned, ledger, submitted

PIECES = (
    ledger(submitted("a"), submitted("b"), assigned("a", 1), batch_id=1),
    ledger({"task_id": "a", "transition": "succeeded", "epoch": 1}, assigned("b", 1), batch_id=2),
    ledger({"task_id": "b", "transition": "failed", "epoch": 1, "reason": "exit code 1"}, batch_id=3),
)


def stored(folder: Path, table: str, key: str) -> list[dict[str, object]]:
    rows = DeltaTable(table_uri(str(folder), table)).to_pyarrow_table().to_pylist()
    return sorted(rows, key=lambda row: str(row[key]))


def agrees_with_ledger(folder: Path) -> bool:
    tasks, placements = fold_ledger(pa.concat_tables(PIECES))
    return (
        stored(folder, "tasks", "task_id") == sorted(tasks.to_pylist(), key=lambda row: str(row["task_id"]))
        and stored(folder, "placements", "task_id") == placements.to_pylist()
    )


@pytest.mark.parametrize("failing", ["tasks", "placements"])
def test_what_could_not_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    tables = PlaceTables(str(tmp_path), every_ms=10, compact_every_s=0, stop=Stop())
    commit = Appender.commit
    failures = [OSError("No space left on device")] * 2

    def sometimes(table: Appender, *arguments: Any, **named: Any) -> None:
        if failures and table.contract.name == failing:
            raise failures.pop()
        commit(table, *arguments, **named)

    monkeypatch.setattr(Appender, "commit", sometimes)
    for piece in PIECES:
        tables.put(piece)
        try:
            tables.step()
        except OSError:
            continue
    assert not failures
    tables.step()
    assert agrees_with_ledger(tmp_path)


def test_the_last_rows_are_written_before_the_job_ends(tmp_path: Path) -> None:
    stop = Stop()
    tables = PlaceTables(str(tmp_path), every_ms=60_000, compact_every_s=0, stop=stop)
    tables.start(Ledger.claim(str(tmp_path)))
    for piece in PIECES:
        tables.put(piece)
    stop.finish()
    assert agrees_with_ledger(tmp_path)
