"""Training on a region's file: the network that the run has, the same again for the same round, and wrong files."""

from pathlib import Path

import numpy as np
import pytest

from thalweg.federation.local_samples import LocalSamples, SamplesError, on_samples, read_samples, shape_of
from thalweg.federation.own_training import TrainingError, own_training
from thalweg.learning.local.network import LayeredNetwork
from thalweg.learning.local.training import LocalTraining
from thalweg.streams.contract.messages import LearningRun, ModelState, Payload


def some(seed: int = 0, samples: int = 40) -> LocalSamples:
    luck = np.random.default_rng(seed)
    x = luck.standard_normal((samples, 3)).astype(np.float32)
    return LocalSamples(x=x, y=(x[:, 0] > 0).astype(np.int64))


def asked(parameters: int, round_number: int = 1, strategy: str = "fedavg") -> ModelState:
    return ModelState(
        model="m",
        version=round_number - 1,
        payload=Payload(sha256="0" * 64, size_bytes=4),
        run=LearningRun(parameters=parameters, rounds=9, strategy=strategy),  # type: ignore[arg-type]
        round=round_number,
    )


@pytest.mark.parametrize("hidden", [0, 5])
def test_training_learns_and_is_the_same_again(hidden: int) -> None:
    network = LayeredNetwork(inputs=3, hidden=hidden, classes=2)
    begin, samples = network.initial(1), some()
    how = LocalTraining(epochs=100)
    after = [on_samples(samples, how, hidden, "bern", 0)(begin, asked(network.parameters)) for _ in range(2)]
    assert np.array_equal(after[0].parameters, after[1].parameters)
    assert after[0].samples == 40
    before, later = (network.accuracy(vector, samples.x, samples.y) for vector in (begin, after[0].parameters))
    assert later > max(before, 0.9)
    other = on_samples(samples, how, hidden, "oslo", 0)(begin, asked(network.parameters))
    assert not np.array_equal(other.parameters, after[0].parameters)


def test_scaffold_sends_changes_and_remembers_its_variate() -> None:
    network = LayeredNetwork(inputs=3, hidden=0, classes=2)
    begin = np.concatenate([network.initial(1), np.zeros(network.parameters, np.float32)])
    train = on_samples(some(), LocalTraining(), 0, "bern", 0)
    first = train(begin, asked(network.parameters, 1, "scaffold"))
    second = train(begin, asked(network.parameters, 1, "scaffold"))
    assert first.is_change and first.parameters.size == 2 * network.parameters
    assert not np.array_equal(first.parameters, second.parameters)


def test_the_runs_parameters_tell_how_many_classes_there_are() -> None:
    for shape in (LayeredNetwork(inputs=64, hidden=32, classes=10), LayeredNetwork(inputs=7, hidden=0, classes=3)):
        assert shape_of(shape.parameters, shape.inputs, shape.hidden, 2) == shape
        with pytest.raises(SamplesError, match="no network"):
            shape_of(shape.parameters + 1, shape.inputs, shape.hidden, 2)
        with pytest.raises(SamplesError, match="at least 11 classes"):
            shape_of(shape.parameters, shape.inputs, shape.hidden, 11)


def test_a_file_is_read_back_and_one_that_holds_no_samples_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.npz"
    samples = some()
    np.savez(file, x=samples.x, y=samples.y)
    found = read_samples(file)
    assert np.array_equal(found.x, samples.x) and np.array_equal(found.y, samples.y)
    for x, y, words in (
        (samples.x[0], samples.y, r"allowed are \[samples"),
        (samples.x, samples.y[1:], r"allowed are \[samples"),
        (samples.x * np.nan, samples.y, "finite"),
        (samples.x, samples.y - 1, "whole numbers"),
        (samples.x, samples.y / 2, "whole numbers"),
    ):
        np.savez(file, x=x, y=y)
        with pytest.raises(SamplesError, match=words):
            read_samples(file)
    np.savez(file, x=samples.x)
    with pytest.raises(SamplesError, match="wanted is a"):
        read_samples(file)
    with pytest.raises(SamplesError, match="wanted is a"):
        read_samples(tmp_path / "nowhere.npz")


def test_a_training_of_ones_own_is_found_by_file_or_module(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def train(vector, state):\n    return 'trained'\n")
    assert own_training(f"{file}:train")(np.zeros(1), None) == "trained"  # type: ignore[arg-type, comparison-overlap]
    assert own_training("json:loads")
    for named, words in (
        ("mine", "FILE.py:FUNCTION"),
        (f"{file}:other", "no function other"),
        (f"{tmp_path}/none.py:train", "no such file"),
        ("no_such_module:train", "no_such_module"),
    ):
        with pytest.raises(TrainingError, match=words):
            own_training(named)
