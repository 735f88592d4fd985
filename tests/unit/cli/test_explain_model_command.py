"""`thalweg explain-model`: reasons of a network from files, and what a wrong call is told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from thalweg.cli.explain_model_command import explain_model
from thalweg.learning.local.network import LayeredNetwork


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A network that looks at feature 2 alone, and samples that it names rightly."""
    network = LayeredNetwork(inputs=4, hidden=0, classes=2)
    weights = np.zeros((4, 2), np.float32)
    weights[2] = [-1.0, 1.0]
    x = np.random.default_rng(5).standard_normal((60, 4)).astype(np.float32)
    vector = np.concatenate([weights.ravel(), np.zeros(2, np.float32)])
    assert vector.size == network.parameters
    file = tmp_path / "model.npz"
    np.savez(file, parameters=vector, x=x, y=(x[:, 2] > 0).astype(np.int64))
    return file


def told(file: Path, *options: str) -> Any:
    return CliRunner().invoke(explain_model, [str(file), *options])


def test_the_feature_that_decides_is_named_in_all_three_reasons(saved: Path) -> None:
    answer = json.loads(told(saved, "--json").output)
    assert (answer["inputs"], answer["hidden"], answer["classes"], answer["accuracy"]) == (4, 0, 2, 1.0)
    assert answer["importance"][0]["feature"] == 2 and answer["importance"][0]["points_lost"] > 20
    assert {row["points_lost"] for row in answer["importance"][1:]} == {0.0}
    values = answer["answer"]["values"]
    assert values[0]["feature"] == 2
    assert sum(row["shapley"] for row in values) == pytest.approx(
        answer["answer"]["score"] - answer["answer"]["base"], abs=1e-9
    )
    assert [change["feature"] for change in answer["counterfactual"]["changes"]] == [2]
    assert answer["counterfactual"]["named"] == 1 - answer["answer"]["named"]


def test_a_hidden_layer_follows_from_the_classes_and_its_values_are_sampled(tmp_path: Path) -> None:
    network = LayeredNetwork(inputs=4, hidden=6, classes=3)
    x = np.random.default_rng(1).standard_normal((40, 4)).astype(np.float32)
    vector = network.initial(3)
    np.save(tmp_path / "model.npy", vector)
    np.savez(tmp_path / "held-out.npz", x=x, y=np.arange(40) % 3)
    options = ("--samples", str(tmp_path / "held-out.npz"), "--json")
    answer = json.loads(told(tmp_path / "model.npy", *options).output)
    assert (answer["hidden"], answer["classes"]) == (6, 3)
    assert max(row["error"] for row in answer["answer"]["values"]) > 0
    assert json.loads(told(tmp_path / "model.npy", *options).output) == answer  # equal seeds, equal reasons
    other = json.loads(told(tmp_path / "model.npy", *options, "--seed=1").output)
    assert other["answer"]["values"] != answer["answer"]["values"]


@pytest.mark.parametrize("ending", [".svg", ".png"])
def test_a_picture_is_drawn_beside_the_words_and_is_the_same_again(saved: Path, tmp_path: Path, ending: str) -> None:
    files = [tmp_path / f"{name}{ending}" for name in "ab"]
    for file in files:
        answer = told(saved, "--plot", str(file))
        assert answer.exit_code == 0
        assert "It would be named" in answer.output and "feature 2 were" in answer.output
    assert files[0].read_bytes() == files[1].read_bytes()
    begins = {".svg": b"<?xml", ".png": b"\x89PNG"}[ending]
    assert files[0].read_bytes().startswith(begins) and files[0].stat().st_size > 5_000


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--sample=60"], 2, "sample 60: there are 60, from 0"),
        (["--hidden=3"], 2, "no network of 4 inputs, 3 hidden and at least 2 classes has so many"),
        (["--plot=a.pdf"], 2, "allowed are files that end in .svg or .png"),
        (["--rounds=1"], 2, "2<=x<=10000"),
    ],
)
def test_a_wrong_call_is_told_what_is_allowed(saved: Path, options: list[str], code: int, words: str) -> None:
    answer = told(saved, *options)
    assert answer.exit_code == code
    assert words in answer.output


def test_a_file_that_holds_no_vector_and_a_run_that_nobody_knows_are_told(saved: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros((2, 2)), y=np.zeros(2, int))
    answer = told(tmp_path / "other.npz")
    assert answer.exit_code == 2 and "a .npz file with `parameters`" in answer.output
    table = tmp_path / "table.csv"
    table.write_text("a,b\n")
    answer = told(table)
    assert answer.exit_code == 2 and "allowed are .npy, .npz, .json and the name of a run" in answer.output
    assert told(Path("digits")).exit_code == 2  # a run has no samples of its own
    unknown = CliRunner().invoke(explain_model, ["digits", f"--samples={saved}", f"--warehouse={tmp_path}"])
    assert unknown.exit_code == 1 and "thalweg federate history digits" in unknown.output
