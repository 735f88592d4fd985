"""`bench soak`: time that passes for the tables, and judgements that could go the other way."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from thalweg.benchmarks.soak.passing_time import PassingTime
from thalweg.benchmarks.soak.soak import PlaceSoak, growing, judged
from thalweg.benchmarks.soak.soak_driver import SoakDriver
from thalweg.benchmarks.soak.soak_plot import draw
from thalweg.benchmarks.soak.steady_regions import SteadyRegions
from thalweg.sync import clock
from thalweg.sync.delta import log_writer, upkeep
from thalweg.sync.delta.contracts import DECISIONS
from thalweg.sync.delta.log_writer import LogWriter
from thalweg.sync.delta.upkeep import Upkeep

HOUR_S = 3_600


def test_what_is_replaced_is_swept_when_its_time_is_over_by_the_passing_clock(tmp_path: Path) -> None:
    passing = PassingTime(100 * HOUR_S * 1_000)
    with passing.kept():
        writer = LogWriter(DECISIONS, str(tmp_path))
        keeper = Upkeep(writer.uri)
        for number in range(4):
            writer.append(_row(number), {"q": number})
        writer.compact(at_least=4)
        keeper.checkpoint()
        assert keeper.sweep() == 0
        passing.passes(20 * HOUR_S)
        assert keeper.sweep() == 0, "25 hours are kept"
        passing.passes(7 * HOUR_S)
        assert keeper.sweep() == 4
    assert log_writer.system_clock is clock.system_clock
    assert upkeep.DeltaTable is DeltaTable


def test_log_entries_go_with_the_passing_clock_and_not_before(tmp_path: Path) -> None:
    passing = PassingTime(100 * HOUR_S * 1_000)
    with passing.kept():
        writer = LogWriter(DECISIONS, str(tmp_path))
        log = Path(writer.uri, "_delta_log")
        for number in range(5):
            writer.append(_row(number), {"q": number})
        Upkeep(writer.uri).checkpoint()
        assert len(list(log.glob("*.json"))) == 6
        passing.passes(26 * HOUR_S)
        writer.append(_row(5), {"q": 5})
        Upkeep(writer.uri).checkpoint()
        passing.passes(26 * HOUR_S)
        writer.append(_row(6), {"q": 6})
        Upkeep(writer.uri).checkpoint()
        entries = len(list(log.glob("*.json")))
        assert entries < 4
        ages_h = [(passing.now_ms / 1_000 - os.stat(file).st_mtime) / HOUR_S for file in log.glob("*.json")]
        assert max(ages_h) < 60 and min(ages_h) >= 0
    assert len(DeltaTable(writer.uri).to_pyarrow_table()) == 7


def _row(number: int) -> pa.Table:
    row = {
        "query_id": "q",
        "batch_id": number,
        "row": 0,
        "driver_epoch": 1,
        "decided_at": 0,
        "task_id": f"t{number}",
        "copy": 0,
        "epoch": 0,
        "transition": "submitted",
    }
    return pa.Table.from_pylist([row], schema=DECISIONS.schema)


def test_as_many_tasks_end_as_begin_and_what_was_meant_to_be_refused_is(tmp_path: Path) -> None:
    regions, passing = SteadyRegions(requests=5, runs_batches=4), PassingTime(60 * 300_000)
    (tmp_path / "warehouse").mkdir()
    with passing.kept():
        driver = SoakDriver(
            warehouse=tmp_path / "warehouse",
            regions=regions,
            time=passing,
            seconds_per_batch=300.0,
            upkeep_every=20,
            snapshot_every_rows=10**9,
        )
        for _ in range(60):
            driver.prepare()
            driver.take()
            driver.look_after()
    world = driver.placer.world
    asked = 60 * 5
    assert len(world.waiting) == 0
    assert regions.ends_told + len(world.tasks) == asked
    assert 5 * 4 <= len(world.tasks) <= 5 * 8
    assert regions.refused == 6
    assert {path.name for path in (tmp_path / "warehouse").iterdir()} >= {"decisions", "tasks_archive", "account"}


def _samples(count: int, **of: Any) -> list[dict[str, Any]]:
    """Samples in which everything stays, but for what is given as a function of the sample's number."""
    steady: dict[str, Any] = {
        "yardstick_ms": lambda _: 5.0,
        "beside_ms_per_batch": lambda _: 9.0,
        "rss_mb": lambda _: 500.0,
        "snapshot_mb": lambda _: 1.0,
        "tables": lambda _: {"tasks": _counts(100)},
    }
    return [
        {"batch": (number + 1) * 10, **{name: make(number) for name, make in (steady | of).items()}}
        for number in range(count)
    ]


def _counts(files: int) -> Mapping[str, int]:
    return {"files": files, "files_on_disk": 100, "log_entries": 100, "checkpoints": 4}


PARAMETERS = PlaceSoak(batches=1_000, sample_every=10)


def test_what_stays_is_found_to_stay() -> None:
    verdict = judged(PARAMETERS, _samples(100), [10.0, 11.0] * 500)
    assert verdict["ok"] and verdict["why"] == []
    assert verdict["cpu_p95_drift_percent"] == 0
    assert verdict["rss_mb_per_1000_batches"] == 0


def test_batches_that_grow_dearer_are_found() -> None:
    verdict = judged(PARAMETERS, _samples(100), [10 + number / 500 for number in range(1_000)])
    assert not verdict["ok"]
    assert verdict["cpu_p95_drift_percent"] > 10


def test_files_that_grow_in_number_are_named() -> None:
    verdict = judged(
        PARAMETERS, _samples(100, tables=lambda number: {"tasks": _counts(100 + 5 * number)}), [10.0] * 1_000
    )
    assert verdict["why"] == ["tasks.files grows: 370, then 595"]


def test_files_that_come_and_go_are_no_growth() -> None:
    assert growing(_samples(100, tables=lambda number: {"tasks": _counts(100 + number % 30)})) == {}


def test_memory_that_grows_is_told_for_a_thousand_batches() -> None:
    verdict = judged(PARAMETERS, _samples(100, rss_mb=lambda number: 500 + number / 10), [10.0] * 1_000)
    assert verdict["rss_mb_per_1000_batches"] == pytest.approx(10)


def test_fewer_batches_than_can_be_judged_are_refused() -> None:
    from thalweg.benchmarks.soak.soak import measure

    with pytest.raises(ValueError, match="twenty samples, 4,000"):
        measure(PlaceSoak(batches=1_000))


def test_a_record_is_drawn_the_same_way_each_time(tmp_path: Path) -> None:
    samples = [
        {**one, "cpu_p50_ms": 9.0, "cpu_p95_ms": 10.0} for one in _samples(20, rss_mb=lambda number: 500 + number)
    ]
    record = json.loads(json.dumps({"parameters": {"seconds_per_batch": 300}, "samples": samples}))
    drawn = []
    for name in ("a.svg", "b.svg"):
        draw(record, tmp_path / name)
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0] == drawn[1]
    draw({**record, "samples": record["samples"][:10]}, tmp_path / "c.svg")
    assert (tmp_path / "c.svg").read_bytes() != drawn[0]
