"""`thalweg rollout`: what a wrong call is told, and what the table's rows are shown as."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.unit.jobs.rollout.small_plane import MODEL, SmallPlane
from tests.unit.jobs.rollout.test_conductor import BAD, GOOD, played, wish
from thalweg.cli.rollout_command import rollout
from thalweg.jobs.rollout.rollout_rows import facts_of, rows_of
from thalweg.jobs.runtime.fact_ledger import DeltaFacts
from thalweg.learning.rollout.facts import RolloutFact
from thalweg.learning.rollout.records import RolloutWish
from thalweg.sync.delta.contracts import ROLLOUTS
from thalweg.sync.delta.store import AnotherWriterError

DIGEST = "a" * 64


def ledger(warehouse: Path) -> DeltaFacts[RolloutFact]:
    found = DeltaFacts[RolloutFact](
        ROLLOUTS, str(warehouse), application="thalweg-roll-out", rows_of=rows_of, facts_of=facts_of
    )
    found.claim()
    return found


def told(call: list[str]) -> Any:
    result = CliRunner().invoke(rollout, call)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["m", "--version=8"], "Missing option '--digest'"),
        (["m", "--version=8", "--digest=abc"], "64 digits of hex"),
        (["a/b", "--version=8", f"--digest={DIGEST}"], "no slash"),
        (["m", "--version=8", f"--digest={DIGEST}", "--waves=0.5,0.1,1"], "shares that grow"),
        (["m", "--version=8", f"--digest={DIGEST}", "--waves=some"], "--waves 'some'"),
        (["m", "--version=8", f"--digest={DIGEST}", "--waves="], "--waves ''"),
        (["m", "--version=8", f"--digest={DIGEST}", "--waves=nan,1"], "shares that grow, the last of them 1"),
        (["m", "--version=8", f"--digest={DIGEST}", "--margin=wrong=nan"], "--margin 'wrong=nan'"),
        (["m", "--version=8", f"--digest={DIGEST}", "--margin=ugly=0.1"], "allowed are some of"),
        (["m", "--version=8", f"--digest={DIGEST}", "--margin=wrong"], "MEASURE=SHARE"),
        (["m", "--version=8", f"--digest={DIGEST}", "--share=nan"], "finite"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_what_is_allowed(call: list[str], words: str) -> None:
    result = CliRunner().invoke(rollout, ["start", *call])
    assert result.exit_code == 2 and words in result.output, result.output


def test_a_digest_in_upper_case_is_taken_and_the_helps_own_example_is_one(tmp_path: Path) -> None:
    shown = CliRunner().invoke(rollout, ["start", "--help"]).output
    (example,) = re.findall(r"--digest ([0-9a-f]+)\b", shown)
    for digest in (example, example.upper()):
        call = ["start", "m", "--version=8", f"--digest={digest}", f"--config={tmp_path / 'none.yaml'}"]
        result = CliRunner().invoke(rollout, call)
        assert result.exit_code == 2 and "none.yaml" in result.output, result.output  # read after the digest is


def test_a_first_version_that_waits_for_an_edge_says_so(tmp_path: Path) -> None:
    plane = SmallPlane()
    plane.wish(wish("7"))
    plane.look()
    ledger(tmp_path).append(plane.ledger.facts, 1)
    (found,) = told(["status", "--json", f"--warehouse={tmp_path}"])["rollouts"]
    assert (found["state"], found["edges"]) == ("running", 0) and "first edge" in found["reason"]


def test_a_refusal_is_shown_with_its_reason(tmp_path: Path) -> None:
    plane = SmallPlane()
    plane.wish(wish("7"))
    plane.look()
    plane.wish(wish("8"))
    plane.look()
    ledger(tmp_path).append(plane.ledger.facts, 1)
    (found,) = told(["status", "--json", f"--warehouse={tmp_path}"])["rollouts"]
    assert found["refused"] == 1 and "goes on: of version 7" in found["refusal"]
    shown = CliRunner().invoke(rollout, ["status", f"--warehouse={tmp_path}"], env={"COLUMNS": "300"})
    assert "goes on: of version 7" in shown.output


def test_a_stop_of_no_roll_out_is_refused_and_leaves_no_model_behind(tmp_path: Path) -> None:
    plane = SmallPlane()
    plane.wish(RolloutWish(wish="stop-1", op="stop"))
    plane.look()
    ledger(tmp_path).append(plane.ledger.facts, 1)
    assert [fact.rule for fact in plane.ledger.facts] == ["not_running"]
    assert told(["status", "--json", f"--warehouse={tmp_path}"]) == {"rollouts": []}
    options = [f"--set=warehouse.path={tmp_path}", "--bootstrap=127.0.0.1:9"]
    result = CliRunner().invoke(rollout, ["stop", MODEL, *options])
    assert result.exit_code == 1 and f"no roll-out of '{MODEL}'" in result.output, result.output


def test_status_and_history_say_how_it_stands_and_why(tmp_path: Path) -> None:
    facts = played(BAD, ticks=40).ledger.facts
    written = ledger(tmp_path)
    written.append(facts, 1)
    assert written.holds(len(facts)) and not written.holds(len(facts) + 1)
    (found,) = told(["status", "--json", f"--warehouse={tmp_path}"])["rollouts"]
    assert (found["state"], found["rule"], found["serving"], found["version"]) == ("rolled_back", "slow", "7", "8")
    assert found["evidence"]["harm"] > 2 and found["plan"]["share"] == 0.5
    kinds = [fact["kind"] for fact in told(["history", MODEL, "--json", f"--warehouse={tmp_path}"])["facts"]]
    assert kinds == [fact.kind.value for fact in reversed(facts)]
    shown = CliRunner().invoke(rollout, ["history", MODEL, f"--warehouse={tmp_path}"], env={"COLUMNS": "250"})
    assert shown.exit_code == 0 and "against no worse" in shown.output


def test_the_ledger_gives_back_what_it_took_and_fences_who_wrote_before(tmp_path: Path) -> None:
    facts = played(GOOD, ticks=30).ledger.facts
    first = ledger(tmp_path)
    first.append(facts[:3], 1)
    second = ledger(tmp_path)
    assert second.read() == facts[:3]
    second.append(facts[3:], 4)
    with pytest.raises(AnotherWriterError):
        first.append(facts[3:], 4)
    assert ledger(tmp_path).read() == facts


def test_a_model_that_nobody_knows_is_an_error_and_an_empty_warehouse_shows_none(tmp_path: Path) -> None:
    assert told(["status", "--json", f"--warehouse={tmp_path}"]) == {"rollouts": []}
    for call in (["status", "m"], ["history", "m"]):
        result = CliRunner().invoke(rollout, [*call, f"--warehouse={tmp_path}"])
        assert result.exit_code == 1 and "thalweg rollout status" in result.output
