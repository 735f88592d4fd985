"""`thalweg flower`: what a wrong call is told, before anything is connected, also where Flower is not installed."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from thalweg.cli.flower_command import flower

BROKER = "--bootstrap=127.0.0.1:1"
WHO = ("--name=p", "--region=bern")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--app=json:loads",), "who takes part?"),
        ((*WHO, "--app=json"), "FILE.py:FUNCTION"),
        ((*WHO, "--app=nowhere.py:app"), "nowhere.py"),
        ((*WHO, "--app=json:loads", "--node-config=[]"), "allowed is a JSON object of numbers"),
        ((*WHO, "--app=json:loads", '--run-config={"a": [1]}'), "allowed is a JSON object of numbers"),
        ((*WHO, "--app=json:loads", "--node-config={"), "allowed is a JSON object"),
    ],
)
def test_a_wrong_call_ends_with_2(arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THALWEG_TASK_ID", raising=False)
    told = CliRunner().invoke(flower, ["take-part", "r", BROKER, *arguments])
    assert told.exit_code == 2 and words in told.output, told.output


def test_where_flower_is_not_installed_it_says_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flwr", None)
    (tmp_path / "client.py").write_text("from flwr.clientapp import ClientApp\napp = ClientApp()\n")
    for app in ("json:loads", f"{tmp_path / 'client.py'}:app"):
        told = CliRunner().invoke(flower, ["take-part", "r", BROKER, *WHO, f"--app={app}"])
        assert told.exit_code == 1 and "thalweg[flower]" in told.output, told.output


def test_a_run_is_not_ended_where_no_broker_answers() -> None:
    told = CliRunner().invoke(flower, ["end", "r", BROKER, "--set=kafka.request_timeout_ms=500"])
    assert told.exit_code == 1 and "no Kafka broker answers at 127.0.0.1:1" in told.output, told.output
