"""`thalweg cancel`, `hold`, `release`, `rerun`, `submit` and `wait`: what is sent, what is said, how it ends."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.unit.cli.conftest import put
from tests.unit.cli.test_tasks_command import task
from thalweg.cli import wait_command
from thalweg.cli.main import cli
from thalweg.streams.contract.messages import Answer
from thalweg.sync.delta.contracts import TASKS, TASKS_ARCHIVE


class AnsweringClient:
    """Takes what it is asked, and answers of each task what the test says."""

    sent: list[tuple[str, list[str]]] = []  # noqa: RUF012
    says: dict[str, dict[str, Any]] = {}  # noqa: RUF012

    def __init__(self, **_: object) -> None:
        self.sent.clear()

    def __enter__(self) -> "AnsweringClient":
        return self

    def __exit__(self, *_: object) -> None: ...

    def change(self, op: str, task_ids: list[str]) -> None:
        self.sent.append((op, list(task_ids)))

    def submit_all(self, requests: list[dict[str, Any]], keep_unknown: bool) -> list[str]:
        self.sent.append(("submit", [request["task_id"] for request in requests]))
        return self.sent[-1][1]

    def answered(self, task_ids: list[str], op: str, *, timeout_s: float) -> dict[str, Answer]:
        return {
            task_id: Answer(task_id=task_id, op=op, **{"answer": "taken", **self.says.get(task_id, {})})  # type: ignore[arg-type]
            for task_id in task_ids
            if self.says.get(task_id, {}).get("answer") != "silent"
        }


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder whose warehouse has tasks."""
    warehouse = tmp_path / "warehouse"
    ended = datetime.now(UTC) - timedelta(hours=3)
    put(warehouse, TASKS, [
        task("a", name="train"), task("b", "running", name="train"), task("c", "waiting", held=True),
        task("bad", "failed", changed_at=ended, reason="exit code 3", name="train"),
    ])  # fmt: skip
    put(warehouse, TASKS_ARCHIVE, [task("old", "succeeded", changed_at=ended, regions=["x"])])
    monkeypatch.setenv("THALWEG_STATE", str(tmp_path))
    monkeypatch.setattr("thalweg.cli.reach.broker_calls.Client", AnsweringClient)
    monkeypatch.setattr("thalweg.cli.reach.broker_calls.with_broker", lambda settings: settings)
    AnsweringClient.says = {}
    AnsweringClient.sent.clear()
    return tmp_path


def run(*arguments: str, **more: Any) -> Result:
    return CliRunner().invoke(cli, arguments, **more)


def test_what_is_named_is_changed_and_the_truth_is_said_of_each(state: Path) -> None:
    AnsweringClient.says = {
        "bad": {"answer": "known", "state": "failed", "reason": "exit code 3"},
        "nobody": {"answer": "refused", "reason": "cancel of task_id 'nobody': no such task was submitted"},
        "slow": {"answer": "silent"},
    }
    result = run("cancel", "a", "bad", "nobody", "slow", "a")
    assert AnsweringClient.sent == [("cancel", ["a", "bad", "nobody", "slow"])]
    assert result.stdout.splitlines() == [
        "a cancelled",
        "bad already failed 3 h ago: exit code 3",
        "nobody was refused: cancel of task_id 'nobody': no such task was submitted",
        "slow: cancel sent, not answered",
    ]
    assert "1 of 4 not answered" in result.stderr
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["cancel", "--name", "train"], ["a", "b"]),  # what has ended is not cancelled
        (["hold", "--name", "train", "--state", "waiting"], ["a"]),
        (["release", "--tenant", "default"], ["c"]),  # only what is held
        (["rerun", "--since", "1d"], ["bad", "old"]),
        (["rerun", "--state", "failed"], ["bad"]),
    ],
    ids=" ".join,
)
def test_a_filter_means_what_the_operation_can_do_something_with(
    state: Path, arguments: list[str], meant: list[str]
) -> None:
    looked = run(*arguments, "--dry-run", "--json")
    assert json.loads(looked.stdout)["task_ids"] == meant
    assert AnsweringClient.sent == []
    assert run(*arguments, "--yes").exit_code == 0
    assert AnsweringClient.sent == [(arguments[0], meant)]


def test_without_a_yes_nothing_is_sent_to_many(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = run("cancel", "--name", "train")
    assert (refused.exit_code, AnsweringClient.sent) == (2, [])
    assert "cancel 2 tasks (1 running, 1 waiting): a, b\nNothing was sent: --yes does it" in refused.stderr
    monkeypatch.setattr("thalweg.cli.change_commands._is_a_person_there", lambda: True)
    assert run("cancel", "--name", "train", input="n\n").exit_code == 1
    assert AnsweringClient.sent == []
    assert run("cancel", "--name", "train", input="y\n").exit_code == 0
    assert AnsweringClient.sent == [("cancel", ["a", "b"])]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["cancel"], 2, "wanted are ids of tasks, or options"),
        (["cancel", "a", "--tenant", "x"], 2, "seen are ids and --tenant: allowed is one of them"),
        (["cancel", "--since", "3", "--yes"], 2, "--since '3'"),
        (["cancel", "--tenant", "nobody", "--yes"], 0, "No task is meant by this"),
        (["cancel", "--tenant", "x", "--warehouse", "/nowhere"], 1, "a filter looks into the tables"),
    ],
)
def test_a_call_that_means_nothing_sends_nothing(state: Path, arguments: list[str], code: int, words: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, words in result.output, AnsweringClient.sent) == (code, True, [])


def test_of_thousands_those_are_named_with_which_something_is_the_matter(state: Path) -> None:
    ids = [f"t{number}" for number in range(3_000)]
    AnsweringClient.says = {"t7": {"answer": "refused", "reason": "no such task"}}
    result = run("cancel", *ids)
    assert result.stdout.splitlines() == ["t7 was refused: no such task", "2,999 cancelled, 1 refused"]


def test_a_foreign_file_is_told_of_before_it_is_sent_and_not_sent_if_it_must_be_whole(
    state: Path, tmp_path: Path
) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\n#SBATCH -J bert -p gpu\n#SBATCH --gres=gpu:2\npython train.py\n")
    sent = run("submit", str(script))
    assert sent.exit_code == 0, sent.output
    assert "Read as sbatch; what a request does not say of it:\n  line 2: --partition=gpu: not said" in sent.stderr
    ((op, (task_id,)),) = AnsweringClient.sent
    assert (op, task_id.startswith("bert-"), sent.stdout) == ("submit", True, f"{task_id} submitted\n")
    strict = run("submit", str(script), "--strict")
    assert (strict.exit_code, "nothing was sent: 1 things" in strict.stderr) == (2, True)
    looked = run("submit", str(script), "--dry-run")
    assert json.loads(looked.stdout)["per_worker"] == {"gpus": 2}
    document = json.loads(run("submit", str(script), "--dry-run", "--json").stdout)
    assert (document["format"], document["losses"][0]["line"]) == ("sbatch", 2)
    assert len(AnsweringClient.sent) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"task_id": "t", "array": {"cuont": 3}}', "unknown field 'array.cuont' (is 'array.count' meant?)"),
        (b"task_id: t\nretries: {at_mots: 1}\n", "unknown field 'retries.at_mots' (is 'retries.at_most' meant?)"),
        (b"task_id: t\nafter: [{task: x, task_id: y}]\n", "'after[0].task' (is 'after[0].task_id' meant?)"),
        (b"\xff\xfe\x00", "is no UTF-8 text"),
        (b"a: [1", "line 2"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_refused_with_what_was_meant(
    state: Path, tmp_path: Path, content: bytes, words: str
) -> None:
    file = tmp_path / "tasks"
    file.write_bytes(content)
    result = run("submit", str(file), "--dry-run")
    assert (result.exit_code, words in result.output) == (2, True), result.output


@pytest.mark.parametrize("option", ["--reason", "--name", "--tenant", "--array", "--region", "--since", "--state"])
@pytest.mark.parametrize("command", ["cancel", "hold", "release", "rerun", "tasks"])
def test_an_empty_filter_means_neither_all_nor_none_but_is_refused(state: Path, command: str, option: str) -> None:
    """An unset variable of a shell leaves one, and all with any reason would be cancelled."""
    seen = run(command, option, "", *([] if command == "tasks" else ["--yes"]))
    assert (seen.exit_code, option in seen.stderr, AnsweringClient.sent) == (2, True, []), seen.output


def test_waiting_ends_with_how_the_tasks_ended(state: Path) -> None:
    done = run("wait", "old")
    assert (done.exit_code, done.stdout) == (0, "old succeeded in x 3 h ago\n")
    failed = run("wait", "old", "bad")
    assert failed.exit_code == 1
    assert "bad failed 3 h ago: exit code 3" in failed.stdout
    late = run("wait", "a", "--timeout", "0")
    assert late.exit_code == 1
    assert late.stdout.startswith("a not ended in time: waiting")
    nobody = json.loads(run("wait", "nobody", "--timeout", "0", "--json").stdout)
    assert nobody["tasks"][0]["state"] == "unknown"
    assert run("wait", "nobody", "--timeout", "0").exit_code == 2


def test_who_waits_for_what_was_refused_is_told_why(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_command, "_refused", lambda config, now: {"round": "after 'round' closes a circle"})
    refused = run("wait", "round", "old", "--timeout", "0")
    assert (refused.exit_code, "round was refused: after 'round' closes a circle" in refused.stdout) == (1, True)
    assert run("wait", "round", "nobody", "--timeout", "0").exit_code == 2


def test_waiting_goes_on_until_the_tables_say_that_it_is_over(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            put(state / "warehouse", TASKS_ARCHIVE, [task("a", "succeeded")])
            from deltalake import DeltaTable

            DeltaTable(str(state / "warehouse" / "tasks")).delete("task_id = 'a'")

    # The module's own clock: other threads of the process may sleep meanwhile.
    monkeypatch.setattr("thalweg.cli.wait_command.time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    assert run("wait", "a").exit_code == 0
    assert len(looks) == 2
