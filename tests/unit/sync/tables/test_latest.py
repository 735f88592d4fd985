"""The latest per key: the newest stamp wins, in whatever order and however often samples arrive."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.sync.delta.contracts import LINKS, NODES, PRICES, TELEMETRY
from thalweg.sync.delta.store import open_or_create
from thalweg.sync.tables.latest import latest
from thalweg.sync.tables.latest_tables import LatestTables, by_kind


def samples(*rows: dict[str, Any]) -> pa.Table:
    whole = [
        {"kind": "node", "region": "r", "spot": False, "stamp_counter": 0, "stamp_region": "r", **row} for row in rows
    ]
    return pa.Table.from_pylist(whole, schema=TELEMETRY.schema)


def nodes(*rows: dict[str, Any]) -> pa.Table:
    return by_kind(samples(*rows))["node"]


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "node_id": st.sampled_from("abc"),
            "stamp_ms": st.integers(0, 3),
            "stamp_counter": st.integers(0, 1),
            "stamp_region": st.sampled_from(["r", "s"]),
            "gpus": st.none() | st.integers(0, 2),
        }
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_order_repetition_and_batching_do_not_matter(rows: list[dict[str, Any]], chance: random.Random) -> None:
    once = latest([nodes(*rows)], NODES.key)
    shuffled = rows + chance.sample(rows, chance.randrange(len(rows) + 1))
    chance.shuffle(shuffled)
    step_by_step = nodes(shuffled[0])
    for row in shuffled:
        step_by_step = latest([step_by_step, nodes(row)], NODES.key)

    assert step_by_step.equals(once)


@settings(deadline=None)
@given(ROWS)
def test_the_largest_stamp_of_each_key_wins(rows: list[dict[str, Any]]) -> None:
    def stamp(row: dict[str, Any]) -> tuple[int, int, str]:
        return row["stamp_ms"], row["stamp_counter"], row["stamp_region"]

    won = {row["node_id"]: stamp(row) for row in latest([nodes(*rows)], NODES.key).to_pylist()}

    assert won == {
        key: max(stamp(row) for row in rows if row["node_id"] == key) for key in {row["node_id"] for row in rows}
    }


def test_each_kind_goes_to_its_table() -> None:
    found = by_kind(
        samples(
            {"node_id": "n", "stamp_ms": 1},
            {"kind": "link", "dst_region": "s", "stamp_ms": 1},
            {"kind": "price", "gpu_model": "A100", "stamp_ms": 1},
        )
    )

    assert {kind: rows.schema for kind, rows in found.items()} == {
        "node": NODES.schema,
        "link": LINKS.schema,
        "price": PRICES.schema,
    }


def test_an_older_sample_after_a_restart_does_not_overwrite_a_newer_one(tmp_path: Path) -> None:
    first = LatestTables(str(tmp_path))
    first.offer({"node": nodes({"node_id": "n", "stamp_ms": 5, "gpus": 5})}, 0)
    assert first.write() == 1

    again = LatestTables(str(tmp_path))
    again.offer({"node": nodes({"node_id": "n", "stamp_ms": 4, "gpus": 4})}, 0)
    assert again.write() == 0

    assert open_or_create(NODES, str(tmp_path)).to_pyarrow_table()["gpus"].to_pylist() == [5]


def test_a_start_folds_what_the_history_holds_and_the_tables_have_not_seen(tmp_path: Path) -> None:
    history = open_or_create(TELEMETRY, str(tmp_path))
    write_deltalake(history, samples({"node_id": "a", "stamp_ms": 1, "gpus": 1}), mode="append")
    before = LatestTables(str(tmp_path))
    before.write()
    write_deltalake(history, samples({"node_id": "b", "stamp_ms": 1, "gpus": 2}), mode="append")
    write_deltalake(history, samples({"node_id": "a", "stamp_ms": 0, "gpus": 3}), mode="append")

    after = LatestTables(str(tmp_path))
    after.write()

    assert after.rows(NODES).select(["node_id", "gpus"]).to_pylist() == [
        {"node_id": "a", "gpus": 1},
        {"node_id": "b", "gpus": 2},
    ]


def test_a_crash_between_two_tables_is_caught_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = open_or_create(TELEMETRY, str(tmp_path))
    rows = samples({"node_id": "a", "stamp_ms": 1}, {"kind": "link", "dst_region": "s", "stamp_ms": 1, "rtt_ms": 2.0})
    write_deltalake(history, rows, mode="append")
    tables = LatestTables(str(tmp_path))
    monkeypatch.setattr("thalweg.sync.tables.latest_tables._commit", _failing_on("links"))
    with pytest.raises(OSError, match="no space"):
        tables.write()
    monkeypatch.undo()

    after = LatestTables(str(tmp_path))
    after.write()

    assert open_or_create(NODES, str(tmp_path)).count() == 1
    assert open_or_create(LINKS, str(tmp_path)).to_pyarrow_table()["rtt_ms"].to_pylist() == [2.0]


def _failing_on(name: str) -> Any:
    from thalweg.sync.tables.latest_tables import _commit

    def commit(fold: Any, rows: pa.Table, folded_version: int | None) -> None:
        if fold.contract.name == name:
            raise OSError("no space left on device")
        _commit(fold, rows, folded_version)

    return commit


def test_two_writers_keep_the_newest_of_both(tmp_path: Path) -> None:
    one, two = LatestTables(str(tmp_path)), LatestTables(str(tmp_path))
    one.offer({"node": nodes({"node_id": "a", "stamp_ms": 5, "gpus": 5})}, 0)
    two.offer({"node": nodes({"node_id": "a", "stamp_ms": 4, "gpus": 4}, {"node_id": "b", "stamp_ms": 1})}, 0)
    one.write()
    two.write()

    rows = open_or_create(NODES, str(tmp_path)).to_pyarrow_table().select(["node_id", "stamp_ms"]).to_pylist()
    assert rows == [{"node_id": "a", "stamp_ms": 5}, {"node_id": "b", "stamp_ms": 1}]
