"""The ledger is put back from a copy while broker and regions have gone on: what was told is taken back, nothing twice.

Every book of a played history balances as if the copy had never been needed: what ended is not run again, what runs
goes on, what was asked is known, and what was told is in the ledger.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from thalweg.proof.books import violations
from thalweg.proof.campaign import judged
from thalweg.proof.histories import OF_THE_DRIVER, PUT_BACK, Act, FaultHistory, history, with_put_back
from thalweg.proof.stage import Stage, played
from thalweg.query.sql.query import query

HISTORIES = 3
PEACE = OF_THE_DRIVER | {"submit", "update", "cancel"}


@pytest.mark.parametrize("seed", range(1, 1 + HISTORIES))
def test_histories_in_which_the_ledger_is_put_back_balance(seed: int) -> None:
    wrong, tally = judged(with_put_back(history(seed)))
    assert wrong == []
    assert tally.happened[PUT_BACK]


def in_peace(which: int) -> FaultHistory:
    """Six tasks, and the ledger put back to before most of them; no region is in trouble."""
    submits = [
        Act(what="submit", at=at, request={"task_id": f"t{number}", "expected_s": seconds, "per_worker": {"gpus": 1}})
        for number, (at, seconds) in enumerate([(2, 1), (6, 6), (14, 1), (16, 1), (18, 8), (30, 1)])
    ]
    acts = [
        *submits,
        Act(what="cancel", at=24, which=3),
        Act(what=PUT_BACK, at=34, which=which, amount=0),
    ]
    return replace(history(0), nodes=((8,), (8,)), rounds=44, acts=tuple(sorted(acts, key=lambda act: act.at)))


@pytest.mark.parametrize("which", [1, 2, 9], ids=lambda which: f"way {which}")
def test_what_runs_goes_on_and_what_has_ended_does_not_run_again(tmp_path: Path, which: int) -> None:
    with played(in_peace(which), tmp_path) as stage:
        assert violations(stage) == []
        runs = Counter(key[1] for key in stage.witness.begun if stage.witness.ends.get(key) != "failed")
        told = query("SELECT task_id, reason FROM decisions WHERE transition = 'lost'", warehouse(stage)).dicts()
    assert told == []
    assert {task: count for task, count in runs.items() if count > 1} == {}


def test_without_reading_back_the_books_see_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.proof.driver_life.find_read_back", lambda *_: None)
    with played(in_peace(1), tmp_path) as stage:
        assert violations(stage)


@pytest.mark.parametrize("kills", (2, 9, 21))
def test_a_driver_that_dies_while_it_reads_back_is_followed_by_one_that_does(tmp_path: Path, kills: int) -> None:
    plan = in_peace(2)
    deaths = [Act(what="kill driver", at=34 + number, amount=kills + 2 * number) for number in range(3)]
    with played(replace(plan, acts=(*plan.acts, *deaths)), tmp_path) as stage:
        assert violations(stage) == []
        assert not (Path(warehouse(stage)) / "place.put-back.json").exists()


def warehouse(stage: Stage) -> str:
    return stage.settings.warehouse.path
