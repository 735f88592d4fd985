"""`thalweg rollout-sim`: what it tells, how it ends, and a campaign that goes on where it stopped."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from thalweg.cli.rollout_sim_command import rollout_sim
from thalweg.conf.environment import PROJECT_ROOT
from thalweg.federation.rollout_campaign import (
    RolloutEnd,
    RolloutRecord,
    kept_promises,
    rollout_code_digest,
    summaries,
    summary,
)
from thalweg.learning.rollout.facts import RolloutKind

SMALL = ["--edges=60", "--soak=1", "--json"]


def told(call: list[str], code: int = 0) -> Any:
    result = CliRunner().invoke(rollout_sim, call)
    assert result.exit_code == code, result.output
    return json.loads(result.output)


def test_a_campaign_in_two_calls_is_the_campaign_in_one(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    call = [*SMALL, "--seeds=2", f"--record={path}"]
    first = CliRunner().invoke(rollout_sim, [*call, "--at-most=1"])
    assert json.loads(first.output)["done"] == 1
    both = json.loads(CliRunner().invoke(rollout_sim, call).output)
    whole = CliRunner().invoke(rollout_sim, [*SMALL, "--seeds=2"])
    assert both["done"] == 2 and both["harms"] == json.loads(whole.output)["harms"]
    assert set(both["harms"]) == {"none", "accuracy", "drift", "latency"}
    other = CliRunner().invoke(rollout_sim, [*call, "--edges=61"])
    assert other.exit_code == 2 and "another edges" in other.output


@pytest.mark.parametrize(
    ("call", "words"),
    [(["--at-most=3"], "needs --record"), (["--share=1"], "0.05 to 0.95"), (["--soak=nan"], "no finite number")],
)
def test_a_wrong_call_ends_with_2(call: list[str], words: str) -> None:
    result = CliRunner().invoke(rollout_sim, call)
    assert result.exit_code == 2 and words in result.output


def ended(seed: int, end: RolloutKind, exposed: float) -> RolloutEnd:
    return RolloutEnd(
        seed=seed, end=end, rule="slow", stage=1, decided_s=7_200.0, converged_s=9_000.0, exposed=exposed,
        exposed_in_all=exposed / 2,
    )  # fmt: skip


def test_a_summary_counts_and_a_line_is_read_back() -> None:
    ends = [ended(0, RolloutKind.ROLLED_BACK, 0.01), ended(1, RolloutKind.COMPLETED, 0.03)]
    assert [RolloutEnd.of(one.line()) for one in ends] == ends
    found = summary(ends)
    assert (found["rolled_back"], found["completed"], found["exposed_over_2_percent"]) == (1, 1, 1)
    assert (found["exposed_max"], found["decided_h_max"], found["converged_h_after_max"]) == (0.03, 2.0, 0.5)
    assert found["rolled_back_by"] == {"slow in wave 2": 1}
    back = summary([ended(n, RolloutKind.ROLLED_BACK, 0.01) for n in range(100)])
    quiet = summary([ended(n, RolloutKind.COMPLETED, 0.5) for n in range(99)] + [ended(99, RolloutKind.ROLLED_BACK, 0)])
    assert kept_promises({"none": quiet, "drift": back})
    assert not kept_promises({"none": back, "drift": back})
    assert not kept_promises({"none": quiet, "drift": found})


def test_the_committed_campaign_is_whole_and_speaks_for_the_code_that_is_played() -> None:
    path = PROJECT_ROOT / "benchmarks" / "results" / "rollout-sim.json"
    kept = msgspec.json.decode(path.read_bytes(), type=RolloutRecord)
    assert kept.code == rollout_code_digest(), "run the campaign again: the code that is played has changed since"
    assert (kept.complete, kept.edges, kept.offline, kept.histories) == (True, 1_000, 0.3, 1_000)
    assert kept_promises(summaries(kept))
