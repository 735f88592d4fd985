"""Who was told that a task begins again is never told the end before, however far behind the ledger the tables are."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from deltalake import CommitProperties, Transaction, write_deltalake

from tests.ledger_rows import assigned, happened, ledger, submitted
from tests.unit.cli.conftest import put
from tests.unit.cli.test_results_command import gave
from thalweg.cli.main import cli
from thalweg.sync.delta.contracts import DECISIONS, PLACEMENTS, TASKS
from thalweg.sync.ledger.fold_marks import FOLD_BATCH, FOLD_DRIVER
from thalweg.sync.ledger.folds import LedgerFold

ENDED = (
    ledger(submitted("t"), assigned("t", 1), submitted("other"), batch_id=0),
    ledger(happened("t", "running", 1), gave("t", 0.5), batch_id=1),
)
AGAIN = ledger(submitted("t") | {"epoch": 1}, batch_id=2)


def tables(folder: Path, *commits: pa.Table, folded: int) -> str:
    """A ledger of some commits, of which the first few are in the tables folded from it, as their marks say."""
    for rows in commits:
        put(folder, DECISIONS, rows)
    known = pa.concat_tables(commits[:folded])
    last = known.slice(known.num_rows - 1).to_pylist()[0]
    marks = [Transaction(FOLD_DRIVER, last["driver_epoch"]), Transaction(FOLD_BATCH, last["batch_id"])]
    changes = LedgerFold().fold(known)
    named = {TASKS.name: changes.tasks, PLACEMENTS.name: changes.placements, "results": changes.results}
    for name, rows in named.items():
        write_deltalake(str(folder / name), rows, commit_properties=CommitProperties(app_transactions=marks))
    return str(folder)


def run(command: str, *arguments: str, warehouse: str) -> Result:
    return CliRunner().invoke(cli, [command, *arguments, "--warehouse", warehouse])


def test_waiting_for_what_begins_again_is_not_ended_by_the_run_before(tmp_path: Path) -> None:
    place = tables(tmp_path, *ENDED, AGAIN, folded=2)
    seen = run("wait", "t", "--timeout", "0", warehouse=place)
    assert (seen.exit_code, seen.stdout.split(": ")[1].split()[0]) == (1, "waiting"), seen.output


def test_an_end_is_told_before_the_tables_have_it(tmp_path: Path) -> None:
    seen = run("wait", "t", "--timeout", "0", warehouse=tables(tmp_path, *ENDED, folded=1))
    assert (seen.exit_code, seen.stdout.startswith("t succeeded in aws:us-east-1")) == (0, True), seen.output


def test_a_task_that_only_the_ledger_has_is_one(tmp_path: Path) -> None:
    place = tables(tmp_path, *ENDED, ledger(submitted("late"), batch_id=2), folded=2)
    assert run("wait", "late", "--timeout", "0", warehouse=place).exit_code == 1
    assert run("wait", "nobody", "--timeout", "0", warehouse=place).exit_code == 2


def test_what_begins_again_has_no_results_yet(tmp_path: Path) -> None:
    place = tables(tmp_path, *ENDED, AGAIN, folded=2)
    told = json.loads(run("results", "t", "--json", warehouse=place).stdout)
    assert (told["state"], [end["state"] for end in told["runs"]]) == ("waiting", ["succeeded"])


def test_rows_that_the_tables_have_already_change_nothing(tmp_path: Path) -> None:
    """The mark is read first: tables that were written meanwhile have what is folded once more."""
    commits = (*ENDED, AGAIN, ledger(assigned("t", 2), happened("t", "running", 2), batch_id=3))
    place = tables(tmp_path / "now", *commits, folded=4)
    marks = [Transaction(FOLD_DRIVER, 1), Transaction(FOLD_BATCH, 0)]
    before = json.loads(run("results", "t", "--json", warehouse=place).stdout)
    write_deltalake(
        f"{place}/placements",
        PLACEMENTS.schema.empty_table(),
        mode="append",
        commit_properties=CommitProperties(app_transactions=marks),
    )
    after = json.loads(run("results", "t", "--json", warehouse=place).stdout)
    assert after == before
    assert after["state"] == "running"


def test_explain_is_of_one_mind_with_the_history_that_it_shows(tmp_path: Path) -> None:
    place = tables(tmp_path, *ENDED, AGAIN, folded=2)
    again = json.loads(run("explain", "t", "--json", warehouse=place).stdout)
    assert (again["task"]["state"], again["history"][-1]["transition"]) == ("waiting", "submitted")
    over = tables(tmp_path / "over", *ENDED, folded=1)
    ended = json.loads(run("explain", "t", "--json", warehouse=over).stdout)
    assert (ended["task"]["state"], ended["history"][-1]["transition"]) == ("succeeded", "succeeded")


def test_a_task_that_only_the_ledger_has_is_explained(tmp_path: Path) -> None:
    place = tables(tmp_path, *ENDED, ledger(submitted("late"), batch_id=2), folded=2)
    late = run("explain", "late", warehouse=place)
    assert (late.exit_code, late.stdout.startswith("late: waiting")) == (0, True), late.output
    assert run("explain", "nobody", warehouse=place).exit_code == 2


@pytest.mark.parametrize("asked", [{}, {"not_before": 10**13}, {"after": ["other"]}])
@pytest.mark.parametrize("folded", [1, 2, 3])
def test_what_lets_a_task_start_that_was_held_a_moment_ago_is_told(
    tmp_path: Path, asked: dict[str, object], folded: int
) -> None:
    commits = (
        ledger(submitted("other"), batch_id=0),
        ledger(submitted("new", **asked), happened("new", "waiting", reason="x"), batch_id=1),
        ledger(happened("new", "held", reason="held: by request"), batch_id=2),
    )
    seen = run("explain", "new", warehouse=tables(tmp_path, *commits, folded=folded)).stdout
    assert "Waits, as of now: held: by request" in seen
    assert "What would change it:\n  thalweg release new" in seen


NAMES = ("half", *(f"half[{index}]" for index in range(4)))
HALF = (
    ledger(submitted("alone"), batch_id=0),
    ledger(*({**submitted("half", array={"count": 4}), "task_id": name} for name in NAMES), batch_id=1),
)


@pytest.mark.parametrize("folded", [1, 2])
@pytest.mark.parametrize("command", ["explain", "wait", "logs", "results"])
def test_an_element_that_its_array_does_not_have_is_told_which_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, folded: int
) -> None:
    monkeypatch.setattr("thalweg.cli.wait_command._LOOK_EVERY_S", 0.01)
    place = tables(tmp_path, *HALF, folded=folded)
    seen = run(command, "half[9]", warehouse=place)
    assert seen.exit_code == 2
    assert "half is an array of 4, half[0] to half[3]" in seen.output
    assert "array of" not in run(command, "alone[9]", warehouse=place).output
