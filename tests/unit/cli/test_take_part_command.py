"""`thalweg federate take-part` and `start --participants`: what a wrong call is told, before anything is connected."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("cryptography", reason="the extra `learning` is not installed")

from thalweg.cli.federate_command import federate

BROKER = "--bootstrap=127.0.0.1:1"
WHO = ("--name=p", "--region=bern")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*WHO,), "one of --samples FILE and --train"),
        ((*WHO, "--samples=SAMPLES", "--train=json:loads"), "one of --samples FILE and --train"),
        ((*WHO, "--samples=nowhere.npz"), "nowhere.npz"),
        ((*WHO, "--train=json"), "FILE.py:FUNCTION"),
        (("--samples=SAMPLES",), "who takes part?"),
        (("--name=p", "--samples=SAMPLES"), "who takes part?"),
    ],
)
def test_a_wrong_call_ends_with_2(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "s.npz", x=np.zeros((2, 3)), y=np.array([0, 1]))
    call = ["take-part", "m", BROKER, *(one.replace("SAMPLES", "s.npz") for one in arguments)]
    told = CliRunner().invoke(federate, call)
    assert told.exit_code == 2 and words in told.output, told.output


@pytest.mark.parametrize("key", ["zz", "00" * 31])
def test_a_wrong_key_is_refused_and_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_PARTICIPANT_KEY", key)
    told = CliRunner().invoke(federate, ["take-part", "m", BROKER, *WHO, "--train=json:loads"])
    assert told.exit_code == 2
    assert "64 hexadecimal digits" in told.output and key not in told.output


@pytest.mark.parametrize(
    ("participants", "words"),
    [
        ([{"name": "bern", "command": ["true"]}], "participant 1: data name no region"),
        ([{"name": "bern", "command": ["true"], "data": [{"region": "bern"}], "gpus": 2}], "gpus"),
        ({"run": "python t.py", "resources": {"cpus": 1}}, "is of skypilot"),
    ],
)
def test_participants_that_cannot_be_are_refused_before_anybody_is_asked(
    participants: object, words: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "begin.npy", np.zeros(4, np.float32))
    (tmp_path / "participants.json").write_text(json.dumps(participants))
    call = ["start", "m", BROKER, f"--initial={tmp_path / 'begin.npy'}"]
    told = CliRunner().invoke(federate, [*call, f"--participants={tmp_path / 'participants.json'}"])
    assert told.exit_code == 2 and words in told.output, told.output
