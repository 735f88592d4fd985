"""`thalweg federate`: a run in one process, and what a wrong call is told."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("sklearn", reason="the extra `learning` is not installed")

from thalweg.cli.federate_command import federate
from thalweg.learning.local.network import LayeredNetwork


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
