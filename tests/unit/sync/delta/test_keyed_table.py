"""One row for each key, whatever is written, refused, compacted and opened again; only what is near is rewritten."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from thalweg.sync.delta import appender, keyed_table
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.commits import RemoteCommits
from thalweg.sync.delta.contracts import PLACEMENTS, TASKS, TableContract
from thalweg.sync.delta.keyed_table import KeyedTable
from thalweg.sync.delta.store import table_uri

Model = dict[tuple[str, int], int]


def placements(epochs: Model) -> pa.Table:
    return pa.Table.from_pylist(
        [{"task_id": task, "copy": copy, "epoch": epoch, "state": "running"} for (task, copy), epoch in epochs.items()],
        schema=PLACEMENTS.schema,
    )


def stored(warehouse: Path, contract: TableContract = PLACEMENTS) -> DeltaTable:
    return DeltaTable(table_uri(str(warehouse), contract.name))


def epochs(warehouse: Path) -> list[tuple[str, int, int]]:
    rows = stored(warehouse).to_pyarrow_table().to_pylist()
    return sorted((row["task_id"], row["copy"], row["epoch"]) for row in rows)


@pytest.mark.parametrize("seed", range(12))
def test_it_holds_what_a_dictionary_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(keyed_table, "LARGEST_ROWS", 8)
    monkeypatch.setattr(keyed_table, "MOST_HELD_ROWS", 20)
    if seed % 4 == 3:
        monkeypatch.setattr(appender, "commit_for", lambda _: RemoteCommits())
    chance = random.Random(seed)
    table, model, settled = KeyedTable(PLACEMENTS, str(tmp_path)), Model(), set[tuple[str, int]]()
    for turn in range(40):
        open_keys = [key for key in model if key not in settled]
        news = {(f"t{chance.randrange(60)}", chance.randrange(3)): turn for _ in range(chance.randrange(12))}
        news = {key: turn for key in news if key not in settled}
        gone = [key for key in chance.sample(open_keys, min(len(open_keys), 3)) if key not in news]
        ends = [chance.random() < 0.3 for _ in news]
        released = pa.table(
            {"task_id": [key[0] for key in gone], "copy": pa.array([key[1] for key in gone], pa.int32())}
        )
        if chance.random() < 0.2:
            with monkeypatch.context() as broken:
                broken.setattr(Appender, "commit", _full)
                with pytest.raises(OSError, match="No space"):
                    table.write(placements(news | {("extra", 0): 1}), released, pa.array([*ends, False]), turn)
        table.write(placements(news), released, pa.array(ends, pa.bool_()), turn)
        model |= news
        for key in gone:
            del model[key]
        settled |= {key for key, ended in zip(news, ends, strict=True) if ended}
        if chance.random() < 0.2:
            table.compact(turn)
        if chance.random() < 0.05:
            table = KeyedTable(PLACEMENTS, str(tmp_path))
            held = list(model)
            table.write(placements(model), released.slice(0, 0), pa.array([key in settled for key in held]), turn)
        assert epochs(tmp_path) == sorted((task, copy, epoch) for (task, copy), epoch in model.items())


def _full(*_arguments: Any, **_named: Any) -> None:
    raise OSError("No space left on device")


def tasks(first: int, count: int, state: str) -> pa.Table:
    return pa.Table.from_pylist(
        [{"task_id": f"t{number:06d}", "state": state} for number in range(first, first + count)], schema=TASKS.schema
    )


def test_an_update_rewrites_its_neighbours_and_never_what_is_settled(tmp_path: Path) -> None:
    table, none = KeyedTable(TASKS, str(tmp_path)), TASKS.schema.empty_table()

    def write(rows: pa.Table) -> int:
        before = set(stored(tmp_path, TASKS).file_uris())
        table.write(rows, none, pc.equal(rows["state"], "succeeded"), 0)
        new = [uri for uri in stored(tmp_path, TASKS).file_uris() if uri not in before]
        return sum(pa.parquet.read_metadata(uri.removeprefix("file://")).num_rows for uri in new)

    assert write(tasks(0, 40_000, "pending")) == 40_000
    for first in range(0, 20_000, 500):
        assert write(tasks(first, 500, "running")) <= 500 + 8_192
        assert write(tasks(first, 500, "succeeded")) <= 500 + 8_192
    assert stored(tmp_path, TASKS).to_pyarrow_table().num_rows == 40_000
    files = len(stored(tmp_path, TASKS).file_uris())
    assert table.compact(0) > 30
    assert len(stored(tmp_path, TASKS).file_uris()) < files - 30
    assert stored(tmp_path, TASKS).to_pyarrow_table().num_rows == 40_000
    assert write(tasks(0, 0, "running")) == 0


@pytest.mark.parametrize("seed", range(4))
def test_whoever_goes_on_with_a_table_holds_what_it_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(keyed_table, "LARGEST_ROWS", 8)
    chance, model = random.Random(seed), Model()
    for turn in range(20):
        table = KeyedTable.resumed(PLACEMENTS, str(tmp_path))
        assert {(row["task_id"], row["copy"]): row["epoch"] for row in table.rows().to_pylist()} == model
        for _ in range(2):
            news = {(f"t{chance.randrange(30)}", 0): turn for _ in range(5)}
            table.write(placements(news), placements({}), pa.repeat(pa.scalar(False), len(news)), turn)
            model |= news
        assert epochs(tmp_path) == sorted((task, copy, epoch) for (task, copy), epoch in model.items())


def test_a_table_of_an_older_version_gains_its_columns(tmp_path: Path) -> None:
    older = pa.schema([field for field in PLACEMENTS.schema if field.name != "plan_id"])
    rows = placements({("t1", 0): 1}).drop_columns(["plan_id"]).cast(older)
    write_deltalake(table_uri(str(tmp_path), PLACEMENTS.name), rows)
    table = KeyedTable.resumed(PLACEMENTS, str(tmp_path))
    table.write(placements({("t2", 0): 2}), placements({}), pa.array([False]), 0)
    assert epochs(tmp_path) == [("t1", 0, 1), ("t2", 0, 2)]
    assert KeyedTable.resumed(PLACEMENTS, str(tmp_path)).rows().schema == PLACEMENTS.schema


def test_compacting_changes_no_data_for_whoever_follows_the_table(tmp_path: Path) -> None:
    table, none = KeyedTable(TASKS, str(tmp_path)), TASKS.schema.empty_table()
    for first in (0, 10):
        table.write(tasks(first, 10, "succeeded"), none, pa.array([True] * 10), 0)
    table.compact(0)
    log = sorted((tmp_path / TASKS.name / "_delta_log").glob("*.json"))[-1].read_text()
    assert log.count('"dataChange":false') == 3
    assert '"dataChange":true' not in log
