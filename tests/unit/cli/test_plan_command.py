"""`thalweg plan`: what keeps tasks from being all placed, and how far a plan holds."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from thalweg.cli.plan_command import plan


def document(weights: dict[str, float] | None = None) -> dict[str, Any]:
    a100 = {"gpu_model": "A100", "gpus": 16, "usd_per_gpu_hour": 3.0}
    task = {"gpus": 8, "expected_s": 3600}
    return {
        "regions": [
            {"region": "east", "pools": [{"pool": "east/A100", **a100}]},
            {"region": "west", "pools": [{"pool": "west/A100", **a100, "usd_per_gpu_hour": 4.0}]},
        ],
        "tasks": [{"task_id": f"a{i}", "allowed_regions": ["east"], **task} for i in range(3)]
        + [{"task_id": "b", "gpu_models": ["L4"], **task}, {"task_id": "c", "spot_ok": True, **task}],
        "weights": {"wait": 1000, **(weights or {})},
    }


def told(tmp_path: Path, asked: dict[str, Any], *options: str) -> Any:
    file = tmp_path / "problem.json"
    file.write_text(json.dumps(asked))
    return CliRunner().invoke(plan, ["--problem", str(file), *options])


def test_what_cannot_be_placed_together_is_named_with_its_limits(tmp_path: Path) -> None:
    answer = json.loads(told(tmp_path, document(), "--why-not", "--json").output)["why_not"]
    assert answer["complete"] is True
    kinds = [[(limit["kind"], limit["name"]) for limit in one["limits"]] for one in answer["sets"]]
    assert sorted(kinds) == [
        [("demand", "a0"), ("capacity", "east/A100"), ("residency", "a0")],
        [("demand", "b"), ("gpu_model", "b")],
    ]


def test_people_read_who_asks_for_what_and_what_there_is(tmp_path: Path) -> None:
    output = told(tmp_path, document(), "--why-not").output
    assert "  task a0 and 2 like it: placed, a copy needs 8 GPUs in one pool\n" in output
    assert "  pool east/A100: has 16 GPUs\n" in output
    assert "  task b: only on GPU models that no pool has\n" in output


def test_what_waits_for_its_price_alone_is_said_so(tmp_path: Path) -> None:
    asked = document({"wait": 0.5})
    asked["tasks"] = asked["tasks"][-1:]
    output = told(tmp_path, asked, "--why-not").output
    assert "All tasks can be placed together: what waits here is dearer to place than to leave." in output


def test_ranges_end_where_the_other_pool_or_waiting_is_as_cheap(tmp_path: Path) -> None:
    asked = document()
    asked["tasks"] = asked["tasks"][:1] + asked["tasks"][-1:]
    asked["regions"][0]["pools"][0]["gpus"] = 8
    answer = json.loads(told(tmp_path, asked, "--ranges", "--json").output)["ranges"]
    prices = {row["pool"]: (row["low"], row["high"]) for row in answer["prices"]}
    # a0 may only be in the east: dearer than 125 USD a GPU-hour it would rather wait; so would c in the west.
    assert prices == {"east/A100": pytest.approx((0.0, 125.0)), "west/A100": pytest.approx((0.0, 125.0))}
    east = next(row for row in answer["capacities"] if row["pool"] == "east/A100")
    assert (east["more_usd"], east["more_until"]) == pytest.approx((1.0, 16.0))  # c comes over, a dollar a GPU cheaper
    assert (east["fewer_usd"], east["fewer_until"]) == pytest.approx((122.0, 0.0))  # a0 waits


def test_ranges_of_a_balanced_plan_are_refused(tmp_path: Path) -> None:
    answer = told(tmp_path, document({"balance": 1.0}), "--ranges")
    assert answer.exit_code == 1
    assert "weights.balance is above 0" in answer.output


def test_where_nothing_waits_why_not_says_so_and_a_wrong_file_is_an_error(tmp_path: Path) -> None:
    asked = document()
    asked["tasks"] = asked["tasks"][:1]
    assert "Nothing waits: all tasks are placed." in told(tmp_path, asked, "--why-not").output
    wrong = told(tmp_path, {"tasks": 3})
    assert wrong.exit_code == 2 and wrong.output.startswith("Error: "), wrong.output
