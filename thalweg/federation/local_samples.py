"""Training on a file of samples that lies in the region: for whoever has classes to tell apart and no program yet."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from thalweg.federation.numpy_file import NumpyFileError, read_arrays
from thalweg.federation.participant import Train, Trained
from thalweg.federation.table_files import PreparedFileError, table_file
from thalweg.learning.local.network import Features, Labels, LayeredNetwork
from thalweg.learning.local.training import LocalTraining, Pupil, scaffold_together, trained
from thalweg.learning.vectors.parameters import Vector, digest
from thalweg.streams.contract.messages import ModelState

_SEED_BITS: Final = 63


class SamplesError(Exception):
    """The file holds no samples that can be trained on; the text says why."""


_NUMBERS: Final = "biuf"
"""Kinds of numpy's that are numbers, and are no other number when they are written as floats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSamples:
    """What a region has."""

    x: Features
    y: Labels


def read_samples(file: Path) -> LocalSamples:
    """Read samples from a file of numpy's (.npz) that has `x`, [samples, inputs], and `y`, the class of each from 0.

    Raises:
        SamplesError: it is no such file.
    """
    x, y = read_named_samples(file)
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise SamplesError(f"{file}: allowed are finite numbers, and classes that are whole numbers from 0")
    return LocalSamples(x=x, y=y.astype(np.int64))


def read_named_samples(file: Path) -> tuple[Features, NDArray[Any]]:
    """Read samples from a file of numpy's (.npz) that has `x`, [samples, inputs], and `y`, whatever classes are called.

    Raises:
        SamplesError: it is no such file.
    """
    try:
        x, y = read_arrays(file, "x", "y")
    except NumpyFileError as error:
        raise SamplesError(str(error)) from error
    if x.dtype.kind not in _NUMBERS:
        raise SamplesError(f"{file}: x is of {x.dtype}; allowed are numbers")
    with np.errstate(over="ignore"):  # what is too large is refused below
        x = x.astype(np.float32)
    if x.ndim != 2 or y.shape != x.shape[:1] or not y.size:
        raise SamplesError(f"{file}: x is {x.shape}, y is {y.shape}; allowed are [samples, inputs] and [samples]")
    if not np.isfinite(x).all():
        raise SamplesError(f"{file}: allowed are finite numbers, and classes that are whole numbers from 0")
    return x, y


def shape_of(parameters: int, inputs: int, hidden: int, classes: int) -> LayeredNetwork:
    """Choose the network of which a run has the parameters: how many classes there are follows from their number.

    Args:
        parameters: of the run.
        inputs: numbers of a sample.
        hidden: width of the hidden layer; 0 for none.
        classes: fewest that there must be: a region may have samples of some only.

    Raises:
        SamplesError: no such network has so many.
    """
    width = hidden or inputs
    left = parameters - (inputs + 1) * hidden
    found = LayeredNetwork(inputs=inputs, hidden=hidden, classes=max(left, 0) // (width + 1))
    if found.parameters != parameters or found.classes < classes:
        raise SamplesError(
            f"the run has {parameters} parameters: no network of {inputs} inputs, {hidden} hidden and at least "
            f"{classes} classes has so many"
        )
    return found


def read_columns(file: Path, inputs: Sequence[str], label: str) -> LocalSamples:
    """Read samples from columns of a table: .parquet, .csv, .csv.gz, or the fields of an .npz file.

    Args:
        file: to read.
        inputs: names of the columns of numbers, in the order of the model's inputs.
        label: name of the column of classes.

    Raises:
        SamplesError: the file has no such columns, or others than finite numbers and classes from 0 in them.
    """
    rows: list[list[Any]] = []
    classes: list[Any] = []
    try:
        with tempfile.TemporaryDirectory(prefix="thalweg-samples-") as scratch:
            table = table_file(file, Path(scratch))
            if strangers := [name for name in (*inputs, label) if name not in table.fields]:
                raise SamplesError(f"{file}: there is no column {strangers[0]!r}; it has {', '.join(table.fields)}")
            for row in table.rows():
                rows.append([row[name] for name in inputs])
                classes.append(row[label])
        x = np.array(rows, np.float32).reshape(-1, len(inputs))
    except PreparedFileError as error:
        raise SamplesError(str(error)) from error
    except (TypeError, ValueError) as error:
        raise SamplesError(f"{file}: {', '.join(inputs)}: allowed are numbers in every row ({error})") from error
    y = np.array(classes)
    if not y.size:
        raise SamplesError(f"{file}: it has no rows")
    if not np.isfinite(x).all() or y.dtype.kind not in "iu" or y.min() < 0:
        raise SamplesError(
            f"{file}: allowed are finite numbers in {', '.join(inputs)}, and in {label} classes that are whole numbers "
            "from 0, in every row"
        )
    return LocalSamples(x=x, y=y.astype(np.int64))


def on_samples(samples: LocalSamples, how: LocalTraining, hidden: int, name: str, seed: int) -> Train:
    """Train on samples that stay as they are (`on_samples_now`)."""
    return on_samples_now(lambda: samples, how, hidden, name, seed)


def on_samples_now(now: Callable[[], LocalSamples], how: LocalTraining, hidden: int, name: str, seed: int) -> Train:
    """Train on samples; a round that is trained again on the same gives the same.

    What SCAFFOLD remembers of a participant is in this process: one that is started anew begins with nothing.

    Args:
        now: gives what there is, before each round.
        how: epochs, batches, rate.
        hidden: width of the network's hidden layer; 0 for none.
        name: the participant's; with the seed and the round it gives the order of the samples.
        seed: of the order.
    """
    control: list[Vector] = []

    def train(vector: Vector, state: ModelState) -> Trained:
        samples = now()
        network = shape_of(state.run.parameters, samples.x.shape[1], hidden, int(samples.y.max()) + 1)
        number = int(digest(f"{seed}\0{name}\0{state.round}\0{state.version}".encode())[:16], 16) % 2**_SEED_BITS
        if state.run.strategy == "scaffold":
            own = control.pop() if control else np.zeros(network.parameters, np.float32)
            pupil = Pupil(x=samples.x, y=samples.y, seed=number)
            (one,) = scaffold_together(network, vector, [pupil], [own], how)
            control.append(one.control)
            return Trained(parameters=one.change, samples=samples.y.size, metrics={"loss": one.loss}, is_change=True)
        after, loss, _ = trained(network, vector, samples.x, samples.y, how, number)
        return Trained(parameters=after, samples=samples.y.size, metrics={"loss": loss})

    return train
