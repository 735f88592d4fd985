"""`thalweg results`: of an array, and of what has ended a moment ago."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from click.testing import CliRunner, Result
from deltalake import CommitProperties, Transaction, write_deltalake

from tests.ledger_rows import START, assigned, happened, ledger, submitted
from tests.unit.cli.conftest import put
from thalweg.cli.main import cli
from thalweg.sync.delta.contracts import DECISIONS, PLACEMENTS, TASKS
from thalweg.sync.ledger.fold_marks import FOLD_BATCH, FOLD_DRIVER
from thalweg.sync.ledger.folds import LedgerFold, fold_ledger

ARRAY = {"count": 12}


def gave(task_id: str, accuracy: float, **fields: Any) -> dict[str, Any]:
    outcome = {"exit_code": 0, "started_ms": 1_000, "result": {"accuracy": accuracy}, "metrics": {"fits": 3}}
    told = {"outcome": json.dumps(outcome), "ends": True, "region": "aws:us-east-1"}
    return happened(task_id, "succeeded", 1, **told, **fields)


def tables(folder: Path, *commits: pa.Table, folded: int) -> None:
    """A ledger of some commits, of which the first few are in the tables folded from it."""
    for rows in commits:
        put(folder, DECISIONS, rows)
    known = pa.concat_tables(commits[:folded])
    for contract, table in zip((TASKS, PLACEMENTS), fold_ledger(known), strict=True):
        put(folder, contract, table)
    last = known.slice(known.num_rows - 1).to_pylist()[0]
    marks = [Transaction(FOLD_DRIVER, last["driver_epoch"]), Transaction(FOLD_BATCH, last["batch_id"])]
    write_deltalake(
        str(folder / "results"),
        LedgerFold().fold(known, lambda: None).results,
        commit_properties=CommitProperties(app_transactions=marks),
    )


def sweep(folder: Path, folded: int, *more: pa.Table) -> None:
    """An array of twelve: ten elements ended in the second commit, the last two and the array itself in the third."""
    ids = [f"sweep[{index}]" for index in range(12)]
    first = ledger(
        submitted("sweep", array=ARRAY),
        *(submitted(task_id, array=ARRAY) for task_id in ids),
        *(assigned(task_id, 1) for task_id in ids),
        batch_id=0,
    )
    second = ledger(*(gave(task_id, index / 100) for index, task_id in enumerate(ids[:10])), batch_id=1)
    third = ledger(
        *(gave(task_id, 0.9 + index / 100) for index, task_id in enumerate(ids[10:])),
        happened("sweep", "succeeded", 0, ends=True),
        batch_id=2,
    )
    tables(folder, first, second, third, *more, folded=folded)


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["results", *arguments, "--warehouse", str(folder)])


def document(folder: Path, *arguments: str) -> dict[str, Any]:
    shown = run(folder, *arguments, "--json")
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert isinstance(found, dict)
    return found


def test_a_child_that_starts_before_the_tables_follow_reads_all_that_its_parents_gave(tmp_path: Path) -> None:
    sweep(tmp_path, 2)
    late = document(tmp_path, "sweep")
    assert late["state"] == "succeeded"
    assert [element["index"] for element in late["elements"]] == list(range(12))
    assert [element["state"] for element in late["elements"]] == ["succeeded"] * 12
    accuracies = [index / 100 for index in range(10)] + [0.9, 0.91]
    assert [element["result"]["accuracy"] for element in late["elements"]] == accuracies
    assert {element["metrics"]["fits"] for element in late["elements"]} == {3}


def test_it_is_the_same_before_and_after_the_tables_follow(tmp_path: Path) -> None:
    sweep(tmp_path / "before", 1)
    sweep(tmp_path / "after", 3)
    assert document(tmp_path / "before", "sweep") == document(tmp_path / "after", "sweep")
    assert document(tmp_path / "before", "sweep[11]") == document(tmp_path / "after", "sweep[11]")
    assert len(document(tmp_path / "after", "sweep[3]")["runs"]) == 1


def test_an_element_is_no_array(tmp_path: Path) -> None:
    sweep(tmp_path, 3)
    assert "elements" not in document(tmp_path, "sweep[3]")


def test_ids_that_only_look_alike_are_no_elements(tmp_path: Path) -> None:
    others = ("sweeper[0]", "sweep[0][0]", "sweep[x]", "sweep[007]")
    other = ledger(*map(submitted, others), *(gave(task_id, 1.0) for task_id in others), batch_id=3)
    sweep(tmp_path, 4, other)
    assert [element["task_id"] for element in document(tmp_path, "sweep")["elements"]] == [
        f"sweep[{index}]" for index in range(12)
    ]


def test_what_runs_again_is_not_told_as_ended(tmp_path: Path) -> None:
    sweep(tmp_path, 4, ledger(submitted("sweep[3]", array=ARRAY), batch_id=3))
    states = {element["task_id"]: element["state"] for element in document(tmp_path, "sweep")["elements"]}
    assert states.pop("sweep[3]") == "waiting"
    assert set(states.values()) == {"succeeded"}


def test_the_past_is_told_as_it_was(tmp_path: Path) -> None:
    sweep(tmp_path, 2)
    then = (START + timedelta(seconds=1)).isoformat()
    states = [element["state"] for element in document(tmp_path, "sweep", "--as-of", then)["elements"]]
    assert states == ["succeeded"] * 10 + ["assigned"] * 2


def test_people_see_how_many_and_the_first(tmp_path: Path) -> None:
    sweep(tmp_path, 2)
    shown = run(tmp_path, "sweep", "--limit", "2").stdout
    assert shown.startswith("sweep: succeeded\n12 elements: 12 succeeded\n")
    assert "accuracy 0.01" in shown
    assert "sweep[2]" not in shown
    assert shown.endswith("2 of 12; --limit shows more, --json all\n")
