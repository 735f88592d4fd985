"""`thalweg explain-model`: reasons of a network from files, and what a wrong call is told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from thalweg.cli.explain_model_command import explain_model
from thalweg.federation.reasons_file import ReasonsFileError, read_reasons
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
    assert (
        answer.exit_code == 2 and "allowed are .json, .npy, .npz, .onnx, .skops and the name of a run" in answer.output
    )
    assert told(Path("digits")).exit_code == 2  # a run has no samples of its own
    unknown = CliRunner().invoke(explain_model, ["digits", f"--samples={saved}", f"--warehouse={tmp_path}"])
    assert unknown.exit_code == 1 and "thalweg federate history digits" in unknown.output


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A forest of scikit-learn as skops and as ONNX, and samples that it was not trained on: feature 1 decides."""
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier
    from skops.io import dump

    folder = tmp_path_factory.mktemp("shipped")
    x = np.random.default_rng(3).standard_normal((300, 4)).astype(np.float32)
    named = np.array(["cold", "mild", "warm"])[np.digitize(x[:, 1], [-0.5, 0.5])]
    forest = RandomForestClassifier(12, random_state=0).fit(x[:200], named[:200])
    dump(forest, folder / "forest.skops")
    (folder / "forest.onnx").write_bytes(
        to_onnx(forest, x[:1], options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3}).SerializeToString()
    )
    np.savez(folder / "held-out.npz", x=x[200:], y=named[200:])
    np.savez(folder / "numbered.npz", x=x[200:], y=np.zeros(100, int))
    np.savez(folder / "narrow.npz", x=x[200:, :3], y=named[200:])
    return folder


@pytest.mark.parametrize("ending", [".onnx", ".skops"])
def test_a_classifier_as_it_is_shipped_is_explained_by_the_names_of_its_classes(shipped: Path, ending: str) -> None:
    answer = told(shipped / f"forest{ending}", f"--samples={shipped / 'held-out.npz'}", "--json", "--sample=4")
    found = json.loads(answer.output)
    assert (found["inputs"], found["classes"], found["samples"]) == (4, 3, 100) and found["accuracy"] > 0.9
    assert found["importance"][0]["feature"] == 1 and found["importance"][0]["points_lost"] > 30
    values = found["answer"]["values"]
    assert values[0]["feature"] == 1 and found["answer"]["named"] in ("cold", "mild", "warm")
    assert sum(row["shapley"] for row in values) == pytest.approx(
        found["answer"]["score"] - found["answer"]["base"], abs=1e-6
    )
    assert found["counterfactual"]["named"] != found["answer"]["named"]
    assert len(found["sha256"]) == 64


def test_a_model_that_tells_classes_alone_is_explained_by_what_it_names(shipped: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(shipped / "forest.onnx")
    del model.graph.output[1:]
    (tmp_path / "labels.onnx").write_bytes(model.SerializeToString())
    answer = told(tmp_path / "labels.onnx", f"--samples={shipped / 'held-out.npz'}", "--json", "--sample=4")
    found = json.loads(answer.output)
    whole = json.loads(told(shipped / "forest.onnx", f"--samples={shipped / 'held-out.npz'}", "--json").output)
    assert found["accuracy"] == whole["accuracy"] and found["importance"] == whole["importance"]
    assert found["answer"]["score"] == 1.0 and found["answer"]["values"][0]["feature"] == 1
    assert found["counterfactual"]["changes"][0]["feature"] == 1
    assert found["classes"] == 3


def test_probabilities_by_the_names_of_classes_are_the_same_probabilities(shipped: Path, tmp_path: Path) -> None:
    from skl2onnx import to_onnx
    from skops.io import get_untrusted_types, load

    forest = load(shipped / "forest.skops", trusted=get_untrusted_types(file=shipped / "forest.skops"))
    x = np.load(shipped / "held-out.npz")["x"]
    as_usual = to_onnx(forest, x[:1], target_opset={"": 17, "ai.onnx.ml": 3})  # what nobody asked to be a table
    (tmp_path / "forest.onnx").write_bytes(as_usual.SerializeToString())
    options = (f"--samples={shipped / 'held-out.npz'}", "--json", "--sample=4")
    one, other = (json.loads(told(folder / "forest.onnx", *options).output) for folder in (tmp_path, shipped))
    for found in (one, other):
        del found["sha256"], found["model"]
    assert one == other


def test_one_sample_is_enough(shipped: Path, tmp_path: Path) -> None:
    held_out = np.load(shipped / "held-out.npz")
    np.savez(tmp_path / "one.npz", x=held_out["x"][:1], y=held_out["y"][:1])
    found = json.loads(told(shipped / "forest.onnx", f"--samples={tmp_path / 'one.npz'}", "--json").output)
    assert found["samples"] == 1 and found["counterfactual"] is None


def test_an_answer_that_is_one_number_is_refused(shipped: Path, tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["label"], to=TensorProto.INT64),
    ]
    graph = helper.make_graph(
        nodes,
        "scalar",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "scalar.onnx").write_bytes(model.SerializeToString())
    answer = told(tmp_path / "scalar.onnx", f"--samples={shipped / 'numbered.npz'}")
    assert answer.exit_code == 2 and "allowed is a class of each" in answer.output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x + 1j, y), "complex128; allowed are numbers"),
        (lambda x, y: (x.astype(str), y), "allowed are numbers"),
        (lambda x, y: (x.astype("datetime64[s]"), y), "allowed are numbers"),
        (lambda x, y: (x, np.full(len(y), "hot")), "seen 'hot', allowed 'cold', 'mild', 'warm'"),
    ],
)
def test_samples_that_are_something_else_are_refused(shipped: Path, tmp_path: Path, change: Any, words: str) -> None:
    held_out = np.load(shipped / "held-out.npz")
    x, y = change(held_out["x"].astype(np.float64), held_out["y"])
    np.savez(tmp_path / "odd.npz", x=x, y=y)
    answer = told(shipped / "forest.onnx", f"--samples={tmp_path / 'odd.npz'}")
    assert answer.exit_code == 2 and words in " ".join(answer.output.split())


def test_what_is_written_for_the_page_is_what_is_printed_and_is_read_again(shipped: Path, tmp_path: Path) -> None:
    out = tmp_path / "reasons.json"
    answer = told(shipped / "forest.onnx", f"--samples={shipped / 'held-out.npz'}", "--json", f"--out={out}")
    assert {"format": "thalweg-reasons-1"} | json.loads(answer.output) == json.loads(out.read_bytes())
    found = read_reasons(out.read_bytes())
    assert (found.samples, found.answer.named) == (100, json.loads(answer.output)["answer"]["named"])
    assert [file.name for file in tmp_path.iterdir()] == ["reasons.json"]
    for raw, words in ((b"{}", "missing required field"), (out.read_bytes().replace(b"reasons-1", b"reasons-2"), "-2")):
        with pytest.raises(ReasonsFileError, match=words):
            read_reasons(raw)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("forest.onnx", [], "--samples is wanted"),
        ("forest.onnx", ["--samples=narrow.npz"], "allowed is one tensor of floats, [samples, 3]"),
        ("forest.onnx", ["--samples=numbered.npz"], "names its classes 'cold', 'mild', 'warm'"),
        ("forest.onnx", ["--samples=held-out.npz", "--hidden=3"], "--hidden: allowed for networks"),
        ("forest.onnx", ["--samples=held-out.npz", "--out=a.txt"], "ends in .json"),
        ("forest.skops", ["--samples=numbered.npz"], "names its classes 'cold', 'mild', 'warm'"),
        ("numbered.npz", ["--out=nowhere/a.json"], "there is no folder nowhere"),
        ("other.onnx", ["--samples=held-out.npz"], "no ONNX model that can be loaded"),
        ("other.skops", ["--samples=held-out.npz"], "no model of skops"),
        ("other.joblib", ["--samples=held-out.npz"], "a pickle runs what is in it"),
    ],
)
def test_what_cannot_be_explained_is_told_with_what_can(
    shipped: Path, monkeypatch: pytest.MonkeyPatch, model: str, options: list[str], words: str
) -> None:
    monkeypatch.chdir(shipped)
    for ending in ("onnx", "skops", "joblib"):
        Path(f"other.{ending}").write_bytes(b"nothing of the kind")
    answer = told(Path(model), *options)
    assert answer.exit_code == 2 and words in answer.output
