"""docs/measurements/replay.md says what was measured, and what was measured is what the code still does."""

import json
from pathlib import Path

import pytest

from thalweg.benchmarks.placement.real_graph import published_folder
from thalweg.benchmarks.replay import front
from thalweg.benchmarks.replay import replay as bench
from thalweg.benchmarks.replay import replay_pages as pages
from thalweg.cli.replay_command import run_policy
from thalweg.replay.scenario import philly_scenario
from thalweg.replay.traces import read_philly_jobs

TRACE = published_folder() / "philly" / "philly_jobs_to_2017-11.csv.gz"
RESULT = json.loads(bench.RESULT.read_text(encoding="utf-8"))


def test_the_page_and_its_picture_show_the_recorded_result(tmp_path: Path) -> None:
    text = pages.PAGE.read_text(encoding="utf-8")
    assert text == pages.filled(text, pages.measured(RESULT)), "python -m thalweg.benchmarks.replay.replay_pages"
    pages.draw(RESULT, tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").read_bytes() == pages.PICTURE.read_bytes(), (
        "python -m thalweg.benchmarks.replay.replay_pages"
    )


def test_the_page_and_its_picture_show_the_recorded_front(tmp_path: Path) -> None:
    rows = json.loads(front.RESULT.read_text(encoding="utf-8"))
    text = pages.PAGE.read_text(encoding="utf-8")
    assert text == pages.filled(text, front.table(rows), pages.FRONT_BEGIN, pages.FRONT_END), (
        "python -m thalweg.benchmarks.replay.replay_pages"
    )
    front.draw(rows, tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").read_bytes() == pages.FRONT_PICTURE.read_bytes(), (
        "python -m thalweg.benchmarks.replay.replay_pages"
    )


def test_the_recorded_promises_follow_from_the_recorded_figures() -> None:
    for name in ("more_demand_than_supply", "as_much_demand_as_supply"):
        part = RESULT[name]
        reports = {report["policy"]: report for report in part["policies"]}
        first, *_ = part["promises_by_seed"]
        moved = round(reports["gravity"]["moved_gb"] / reports["spread"]["moved_gb"], 4)
        assert first["moved_bytes_ratio_to_spread"] == moved
        for figure in ("max_demand_by_supply_ratio_to_fleet", "allocation_while_waiting_percent"):
            assert first[figure] == reports["gravity"][figure]
        for one in part["promises_by_seed"]:
            kept = (
                one["max_demand_by_supply_ratio_to_fleet"] <= 1.01
                and one["allocation_while_waiting_percent"] >= 99
                and one["moved_bytes_ratio_to_spread"] <= 0.25
            )
            assert one["kept"] is kept


def test_the_promises_are_kept_where_demand_is_more_than_supply() -> None:
    assert RESULT["more_demand_than_supply"]["kept_with_every_seed"]
    assert RESULT["all_jobs"]["bit_identical"]
    assert RESULT["all_jobs"]["started"] == 74_167
    assert max(RESULT["all_jobs"]["seconds"]) <= 60


@pytest.mark.skipif(not TRACE.is_file(), reason=f"the trace is not at {TRACE} (THALWEG_DATA)")
def test_the_code_still_does_what_was_recorded() -> None:
    part = RESULT["more_demand_than_supply"]
    scenario = philly_scenario(read_philly_jobs(TRACE), load=part["load"], seed=part["seed"])
    recorded = next(report for report in part["policies"] if report["policy"] == "gravity")
    again = run_policy(scenario, "gravity", (), 0.0)
    again["replay_seconds"] = recorded["replay_seconds"]
    # What is counted since has no recorded figure; it stops nobody, so its delays are its waits.
    assert again.pop("delay_mean_s") == pytest.approx(again["wait_mean_s"], abs=0.01)
    assert again == recorded
