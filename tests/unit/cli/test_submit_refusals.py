"""`thalweg submit` of what is wrong: which request of which file, in which line, and the same as a document."""

import json
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from click.testing import CliRunner

from tests.unit.thalweg.translate.test_formats import JOB, SBATCH, read
from thalweg.cli import submit_command
from thalweg.cli.main import cli
from thalweg.client.client import Client


def submitted(text: str, *arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["submit", "-", *arguments], input=text)
    return result.exit_code, result.stdout, result.stderr


MANY = {
    "list.yaml": ("- task_id: a\n- task_id: b\n  per_worker:\n    gpus: two\n", "line 4, "),
    "documents.yaml": ("task_id: a\n---\ntask_id: b\nper_worker:\n  gpus: two\n", "line 5, "),
    "lines.json": ('{"task_id": "a"}\n{"task_id": "b", "per_worker": {"gpus": "two"}}\n', "line 2, "),
    "list.json": ('[{"task_id": "a"},\n {"task_id": "b", "per_worker": {"gpus": "two"}}]', ""),
}


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("dry", [("--dry-run",), ("--bootstrap", "127.0.0.1:1")])
def test_of_many_the_wrong_one_is_named(name: str, dry: tuple[str, ...], tmp_path: Path) -> None:
    text, line = MANY[name]
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(cli, ["submit", str(file), *dry])
    assert result.exit_code == 2
    said = f"task 2 of {file} ({line}task_id 'b'): per_worker.gpus 'two': allowed is a whole number from 0 to 1,024"
    assert said in result.stderr
    assert "None of the 2 was sent" in result.stderr


def test_all_that_is_wrong_is_told_up_to_some() -> None:
    text = "".join(f"- task_id: t{number}\n  workers: none\n" for number in range(8))
    code, _, err = submitted(text, "--dry-run")
    assert (code, err.count("allowed is a whole number"), "and 3 more are wrong" in err) == (2, 5, True)


def test_an_error_is_the_document_too_whatever_ends_the_command() -> None:
    for arguments, words in (
        (["submit", "-", "--json"], "workers 'x'"),
        (["submit", "--json", "--gpus", "many"], "'many' is not a valid integer"),
        (["submit", "/no/such/file", "--json"], "does not exist"),
        (["drain", "x", "--by", "1900-01-01T00:00:00Z", "--json"], "lies in the past"),
        (["sql", "SELECT 1", "--format", "json", "--warehouse", "/no/such/place"], "/no/such/place"),
        (["nonsense", "--json"], "No such command"),
    ):
        result = CliRunner().invoke(cli, arguments, input='{"task_id": "t", "workers": "x"}')
        told = json.loads(result.stdout)
        assert words in told["error"], arguments
        assert (told["exit_code"], set(told)) == (result.exit_code, {"error", "exit_code"})
        assert words in result.stderr
    assert CliRunner().invoke(cli, ["nonsense"]).stdout == ""


class Sending(Client):
    """A client of no broker, which sends nothing."""

    def __init__(self) -> None:
        pass

    def submit_all(self, requests: Any, *, keep_unknown: bool = False) -> list[str]:
        return [request["task_id"] for request in requests]


@pytest.mark.parametrize("text", [JOB, SBATCH], ids=["kubernetes", "sbatch"])
def test_what_is_lost_is_in_the_document(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit_command, "call_broker", lambda *_: sys.exit(_[-1](Sending())))
    code, out, _ = submitted(dedent(text).lstrip(), "--json", "--answer", "0")
    found, told = read(text), json.loads(out)
    assert (code, told["format"], len(told["tasks"])) == (0, found.format, 1)
    assert [loss["why"] for loss in told["losses"]] == [loss.why for loss in found.losses]


@pytest.mark.parametrize("number", ["1e400", ".inf", "-.inf", ".nan"])
@pytest.mark.parametrize("field", ["time_limit_s", "max_usd_per_hour", "expected_s"])
def test_a_number_that_is_none_is_refused_in_a_file(field: str, number: str) -> None:
    code, out, err = submitted(f"task_id: t\n{field}: {number}\n", "--dry-run")
    assert (code, out) == (2, "")
    assert f"(line 2, task_id 't'): {field} " in err
    assert "allowed are finite numbers" in err


@pytest.mark.parametrize(
    "text", ['{"task_id": "t", "max_usd_per_hour": 1e400}', '{"task_id": "t", "time_limit_s": NaN}']
)
def test_and_in_json(text: str) -> None:
    code, out, err = submitted(text, "--dry-run")
    assert (code, out, "allowed are finite numbers" in err) == (2, "", True)


def test_a_date_with_its_zone_is_a_moment() -> None:
    for text in (
        "task_id: t\nnot_before: 2026-12-31T10:00:00Z\ndeadline: 2026-12-31 12:00:00+01:00\n",
        '{"task_id": "t", "not_before": "2026-12-31T11:00:00+01:00", "deadline": "2026-12-31T11:00:00Z"}',
    ):
        request = json.loads(submitted(text, "--dry-run", "--json")[1])["requests"][0]
        assert (request["not_before"], request["deadline"]) == (1_798_711_200_000, 1_798_714_800_000)
    moments = ["--not-before", "2026-12-31T10:00:00Z", "--deadline", "1798714800000"]
    result = CliRunner().invoke(cli, ["submit", *moments, "--dry-run", "--json"])
    request = json.loads(result.stdout)["requests"][0]
    assert (request["not_before"], request["deadline"]) == (1_798_711_200_000, 1_798_714_800_000)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("2026-12-31T10:00:00", "names no zone; write 2026-12-31T10:00:00Z"),
        ("tomorrow", "allowed are a date with its zone"),
    ],
)
def test_another_date_is_refused(written: str, words: str) -> None:
    code, _, err = submitted(f"- task_id: a\n- task_id: b\n  not_before: {written}\n", "--dry-run")
    assert code == 2
    assert f"line 3, task_id 'b': not_before '{written}'" in err and words in err
    result = CliRunner().invoke(cli, ["submit", "--not-before", written, "--dry-run"])
    assert (result.exit_code, words in result.stderr) == (2, True)


def test_a_name_that_stands_twice_in_json_is_refused() -> None:
    for text in (
        '{"task_id": "x", "task_id": "y"}',
        '{"task_id": "x"}\n{"task_id": "z", "env": {"A": "x", "A": "y"}}\n',
    ):
        code, out, err = submitted(text, "--dry-run")
        assert (code, out) == (2, "")
        assert "stands twice, with 'x' and 'y'" in err


def test_a_job_that_runs_nothing_at_a_time_is_refused_with_its_line() -> None:
    code, _, err = submitted(dedent(JOB).lstrip().replace("parallelism: 4", "parallelism: 0"), "--dry-run")
    assert code == 2
    assert "line 10: spec.parallelism: seen 0, by which a Job is suspended" in err and "thalweg hold" in err
