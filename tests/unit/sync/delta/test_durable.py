"""Power is lost at every step: what was acknowledged is there, and the table can be opened and read."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tests.ledger_rows import ledger, submitted
from tests.unit.sync.delta.test_appender import rows as samples
from tests.unit.sync.delta.test_keyed_table import tasks
from tests.unit.sync.tables.test_latest import nodes
from thalweg.sync.delta.appender import Appender
from thalweg.sync.delta.compaction import files_of, rewrite
from thalweg.sync.delta.contracts import CONFLICTS, DECISIONS, NODES, TASKS, TELEMETRY, TableContract
from thalweg.sync.delta.keyed_table import KeyedTable
from thalweg.sync.delta.table_health import damage_of
from thalweg.sync.delta.upkeep import Upkeep
from thalweg.sync.ledger.ledger import Ledger
from thalweg.sync.proof.lossy_disk import LossyDisk
from thalweg.sync.tables.latest_tables import LatestTables

Act = Callable[[], None]


def rehearse(tmp_path: Path, contract: TableContract, column: str, acts: list[tuple[Act, set[object]]]) -> int:
    """Do things one after the other; at every step, lose power in both ways and look. Returns the number of steps.

    Args:
        tmp_path: empty; the warehouse is a folder in it.
        contract: the table that is looked at.
        column: what tells its rows apart.
        acts: each with the values of the column that are there once it is done.
    """
    warehouse, steps = tmp_path / "warehouse", 0
    allowed: list[set[object]] = [set()]

    def look(disk: LossyDisk) -> None:
        nonlocal steps
        steps += 1
        for names_survive in (False, True):
            found = disk.after_power_loss(tmp_path / "found", names_survive=names_survive)
            uri = str(found / contract.name)
            assert list(damage_of(uri)) == []
            if not DeltaTable.is_deltatable(uri):
                assert allowed[-1] == set() or allowed[0] == set()
                continue
            table = DeltaTable(uri).to_pyarrow_table()
            values = set(table[column].to_pylist())
            assert values in allowed, f"step {steps}: {values}, not one of {allowed}"
            assert table.num_rows == len(values)

    disk = LossyDisk(warehouse, look)
    with disk.watched():
        before: set[object] = set()
        for act, after in acts:
            allowed = [before, after]
            act()
            allowed = [after]  # it was acknowledged
            look(disk)
            before = after
    return steps


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    folder = tmp_path / "warehouse"
    folder.mkdir()
    return folder


def test_the_ledger(tmp_path: Path, warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.sync.ledger.ledger.COMPACT_FILES", 2)
    held: list[Ledger] = []
    done: set[object] = set()
    acts: list[tuple[Act, set[object]]] = [(lambda: held.append(Ledger.claim(str(warehouse))), set())]
    for batch in range(4):
        done = done | {f"t{batch}"}

        def commit(batch: int = batch) -> None:
            held[0].commit(ledger(submitted(f"t{batch}"), batch_id=batch), "q", batch, 0)

        acts.append((commit, done))
        if batch % 2:
            acts.append((lambda: bool(held[0].compact()) or None, done))
            acts.append((lambda: bool(Upkeep(f"{warehouse}/decisions").checkpoint()) or None, done))
    assert rehearse(tmp_path, DECISIONS, "task_id", acts) > 30


def test_a_table_with_partitions_and_its_compaction(tmp_path: Path, warehouse: Path) -> None:
    table: list[Appender] = []

    def merge() -> None:
        merged = rewrite(table[0], files_of(DeltaTable(table[0].uri))[1:], 0, lambda: False)
        assert merged is not None
        table[0].commit(merged.actions, purpose="compaction")

    def put(name: str, day: int) -> Act:
        at_ms = 1_700_000_000_000 + day * 86_400_000
        return lambda: table[0].commit(table[0].write(samples(name, received_ms=at_ms), at_ms))

    acts: list[tuple[Act, set[object]]] = [
        (lambda: table.append(Appender(TELEMETRY, str(warehouse))), set()),
        (put("a", 0), {"a"}),
        (put("b", 1), {"a", "b"}),
        (put("c", 1), {"a", "b", "c"}),
        (merge, {"a", "b", "c"}),
    ]
    assert rehearse(tmp_path, TELEMETRY, "node_id", acts) > 20


def test_tables_that_are_rewritten(tmp_path: Path, warehouse: Path) -> None:
    table: list[KeyedTable] = []
    none = TASKS.schema.empty_table()
    acts: list[tuple[Act, set[object]]] = [
        (lambda: table.append(KeyedTable(TASKS, str(warehouse), 2)), set()),
        (
            lambda: table[0].write(tasks(0, 3, "pending"), none, pa.array([False] * 3), 0),
            {"t000000", "t000001", "t000002"},
        ),
        (
            lambda: table[0].write(tasks(3, 1, "failed"), tasks(0, 1, ""), pa.array([True]), 0),
            {"t000001", "t000002", "t000003"},
        ),
        (lambda: bool(table[0].compact(0)) or None, {"t000001", "t000002", "t000003"}),
    ]
    rehearse(tmp_path, TASKS, "task_id", acts)


def test_the_latest_tables(tmp_path: Path, warehouse: Path) -> None:
    tables: list[LatestTables] = []

    def put(stamp: int) -> None:
        tables[0].offer({"node": nodes({"node_id": "a", "stamp_ms": stamp, "gpus": stamp})}, stamp)
        tables[0].write()

    acts: list[tuple[Act, set[object]]] = [
        (lambda: tables.append(LatestTables(str(warehouse))), set()),
        (lambda: put(1), {1}),
        (lambda: put(2), {2}),
    ]
    rehearse(tmp_path, NODES, "gpus", acts)


def test_the_disk_of_these_tests_forgets(tmp_path: Path, warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.sync.delta.commits.sync_together", lambda paths: None)
    table: list[Appender] = []
    row = pa.Table.from_pylist([{"conflict_id": "a", "key": "k"}], schema=CONFLICTS.schema)
    acts: list[tuple[Act, set[object]]] = [
        (lambda: table.append(Appender(CONFLICTS, str(warehouse))), set()),
        (lambda: table[0].commit(table[0].write(row, 0)), {"a"}),
    ]
    with pytest.raises(AssertionError, match=r"is empty|has 0 bytes"):
        rehearse(tmp_path, CONFLICTS, "conflict_id", acts)
