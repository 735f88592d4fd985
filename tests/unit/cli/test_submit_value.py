"""`thalweg submit --value-usd-per-hour`."""

import json

import pytest
from click.testing import CliRunner

from thalweg.cli.main import cli


def submitted(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["submit", "--gpus", "1", "--dry-run", "--json", *arguments])
    return result.exit_code, result.stdout or result.stderr


@pytest.mark.parametrize("value", [0.0, 12.5])
def test_a_value_that_is_given_is_in_the_request(value: float) -> None:
    code, out = submitted("--value-usd-per-hour", str(value))
    assert (code, json.loads(out)["requests"][0]["value_usd_per_hour"]) == (0, value)


def test_without_one_the_request_says_none() -> None:
    assert "value_usd_per_hour" not in json.loads(submitted()[1])["requests"][0]


@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
def test_what_is_no_amount_is_refused_before_anything_is_sent(value: str) -> None:
    code, words = submitted("--value-usd-per-hour", value)
    assert code == 2
    assert "value_usd_per_hour" in words.replace("-", "_")


@pytest.mark.parametrize("text", ['{"task_id": "t", "value_usd_per_hour": 3}', "task_id: t\nvalue_usd_per_hour: 3\n"])
def test_a_file_says_it_too(text: str) -> None:
    result = CliRunner().invoke(cli, ["submit", "-", "--dry-run", "--json"], input=text)
    assert json.loads(result.stdout)["requests"] == [{"task_id": "t", "value_usd_per_hour": 3}]
