"""`thalweg federate`: a run in one process, and what a wrong call is told."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("sklearn", reason="the extra `learning` is not installed")

from thalweg.cli import federate_command
from thalweg.cli.federate_command import federate
from thalweg.learning.local.network import LayeredNetwork
from thalweg.learning.local.training import LocalTraining


def test_a_run_in_one_process_tells_its_figures_and_the_same_digest_again() -> None:
    call = ["run", "--clients=5", "--rounds=2", "--hidden=0", "--compress=delta+top=0.1+bits=8", "--json"]
    told = [json.loads(CliRunner().invoke(federate, call).output) for _ in range(2)]
    assert told[0]["rounds"] == 2 and told[0]["refused"] == {} and told[0]["epsilon"] is None
    assert told[0]["final_sha256"] == told[1]["final_sha256"]
    assert 0.5 < told[0]["accuracy"] < told[0]["central_accuracy"] + 0.1
    assert told[0]["uplink_bytes"] < 5 * 2 * 650 * 4 / 10


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["run", "--compress=half"], "allowed are `whole` or `delta`"),
        (["run", "--strategy=fedbuff", "--aggregate=median", "--compress=delta"], "fedbuff takes whoever comes"),
        (["run", "--rate=1e308"], "0<x<=100"),
        (["start", "m"], "Missing option '--initial'"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_what_is_allowed(call: list[str], words: str) -> None:
    told = CliRunner().invoke(federate, call)
    assert told.exit_code == 2
    assert words in told.output


def test_a_warehouse_without_runs_shows_none_and_names_where_to_look(tmp_path: object) -> None:
    told = CliRunner().invoke(federate, ["status", f"--warehouse={tmp_path}", "--json"])
    assert json.loads(told.output) == {"runs": [], "refused": [], "participants": []}
    told = CliRunner().invoke(federate, ["history", "m", f"--warehouse={tmp_path}"])
    assert told.exit_code == 1 and "thalweg federate status lists the runs" in told.output


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("--secure", '{"large": 1}', "there is no 'large' among its terms; wanted is a JSON object of largest,"),
        ("--secure", '{"largest": "1"}', 'largest is "1"; allowed are numbers'),
        ("--secure", "{}", "largest must be said"),
        ("--secure", "{largest: 1}", "it is no JSON"),
        ("--secure", "[1]", "wanted is a JSON object"),
        ("--private", '{"clip_norm": 1}', "noise_multiplier and sample_rate and delta and budget_epsilon must be said"),
    ],
)
def test_terms_are_refused_in_their_own_words(tmp_path: Path, option: str, text: str, words: str) -> None:
    initial = tmp_path / "initial.npy"
    np.save(initial, np.zeros(4, np.float32))
    rest = ["--quorum=3", "--codec=delta", "--bootstrap=127.0.0.1:9"]
    told = CliRunner().invoke(federate, ["start", "m", f"--initial={initial}", *rest, option, text])
    assert told.exit_code == 2
    assert words in " ".join(told.output.split())
    assert "Terms(" not in told.output and "__init__" not in told.output


def test_what_a_run_saves_is_the_network_that_it_tells_of_and_samples_that_nobody_had(tmp_path: Path) -> None:
    file = tmp_path / "digits.npz"
    call = ["run", "--clients=5", "--rounds=1", "--hidden=0", f"--save={file}", "--json"]
    told = json.loads(CliRunner().invoke(federate, call).output)
    with np.load(file) as saved:
        network = LayeredNetwork(inputs=64, hidden=0, classes=10)
        assert network.accuracy(saved["parameters"], saved["x"], saved["y"]) == told["accuracy"]
        assert saved["y"].size == 359  # a fifth of the digits
    assert CliRunner().invoke(federate, ["run", "--save=digits.npy"]).exit_code == 2


BROKERLESS = "--bootstrap=127.0.0.1:9"


def refused(*call: str) -> str:
    """What a wrong call is told; a call that gets as far as the broker would end with 1."""
    told = CliRunner().invoke(federate, list(call))
    assert told.exit_code == 2, told.output
    return " ".join(told.output.split())


@pytest.mark.parametrize(
    ("numbers", "words"),
    [([], "no numbers"), ([1.0, float("nan")], "number 1 is nan"), ([1e300], "number 0 is inf")],
)
def test_parameters_that_no_run_can_begin_with_are_told_before_a_broker_is_looked_for(
    tmp_path: Path, numbers: list[float], words: str
) -> None:
    file = tmp_path / "begin.npy"
    np.save(file, np.array(numbers))
    assert f"{file}: {words}" in refused("start", "m", f"--initial={file}", BROKERLESS)


def test_raw_parameters_are_numbers_of_four_bytes(tmp_path: Path) -> None:
    file = tmp_path / "begin.bin"
    file.write_bytes(b"abcde")
    assert f"{file}: 5 bytes" in refused("start", "m", f"--initial={file}", BROKERLESS)


@pytest.mark.parametrize(
    ("model", "more", "words"),
    [
        ("m", ["--rounds=99999999"], "rounds 99999999: allowed are 1 to 1000000"),
        ("m", ["--codec=half"], "allowed are `whole` or `delta`"),
        ("m", ["--quorum=5", "--per-round=3"], "at least the quorum of 5"),
        ("", [], "run '': the centre could not read this"),
        ("x" * 300, [], "length <= 256"),
    ],
)
def test_a_run_that_cannot_be_is_told_before_a_broker_is_looked_for(
    tmp_path: Path, model: str, more: list[str], words: str
) -> None:
    file = tmp_path / "begin.npy"
    np.save(file, np.zeros(4, np.float32))
    assert words in refused("start", f"--initial={file}", BROKERLESS, *more, "--", model)


def test_a_run_without_a_name_cannot_be_stopped() -> None:
    assert "the centre could not read this" in refused("stop", BROKERLESS, "--", "")


def test_a_file_of_participants_that_is_none_is_named(tmp_path: Path) -> None:
    begin, file = tmp_path / "begin.npy", tmp_path / "hospitals.yaml"
    np.save(begin, np.zeros(4, np.float32))
    file.write_bytes(b"\xff\xfe\x00")
    assert f"{file}: " in refused("start", "m", f"--initial={begin}", f"--participants={file}", BROKERLESS)


@pytest.mark.parametrize(
    ("file", "words"), [("gone/m.npy", "there is no folder"), ("m.npz", "ends in .npy"), ("m", "ends in .npy")]
)
def test_where_a_version_cannot_be_written_is_told_before_it_is_looked_for(
    tmp_path: Path, file: str, words: str
) -> None:
    # Of this warehouse nothing is known, which would be exit code 1: the place is looked at first.
    assert words in refused("export", "m", str(tmp_path / file), f"--warehouse={tmp_path}")


@pytest.mark.parametrize("option", ["--seed=-1", "--epsilon=1e300", "--hidden=1000000000", "--rate=0", "--epochs=0"])
def test_numbers_with_which_no_run_ends_are_refused(option: str) -> None:
    assert f"'{option.partition('=')[0]}'" in refused("run", "--clients=5", "--rounds=1", option)


def test_a_history_of_nothing_is_no_success_in_json_either(tmp_path: Path) -> None:
    told = CliRunner().invoke(federate, ["history", "m", f"--warehouse={tmp_path}", "--json"])
    assert told.exit_code == 1 and "lists the runs" in told.output


def test_how_clients_train_can_be_said_and_changes_what_is_learned() -> None:
    call = ["run", "--clients=5", "--rounds=1", "--hidden=0", "--json"]
    told = [
        json.loads(CliRunner().invoke(federate, [*call, *more]).output)["final_sha256"]
        for more in ([], ["--rate=0.5", "--batch=4", "--epochs=5"], ["--rate=0.1"], ["--batch=16"], ["--epochs=1"])
    ]
    assert told[0] == told[1], "what is said here is what it does by itself"
    assert len(set(told)) == 4


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_clients_that_diverge_are_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch, more: list[str]) -> None:
    monkeypatch.setattr(federate_command, "training_for", lambda *_: LocalTraining(batch=4, rate=1e308))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = CliRunner().invoke(federate, ["run", "--clients=3", "--rounds=1", "--hidden=0", *more])
    assert told.exit_code == 1, told.exception
    assert told.stderr.count("no round was closed") == 1 and "choose a smaller --rate" in told.stderr
    assert not more or json.loads(told.stdout)["rounds"] == 0
