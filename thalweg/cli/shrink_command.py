"""`thalweg model shrink`: make a model small for the edge, or refuse, with what was measured."""

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from thalweg.cli.reach.ending import FAILED, end
from thalweg.cli.reach.finite import FiniteRange
from thalweg.cli.reach.output_file import check_output
from thalweg.cli.reach.reading import WrongCall
from thalweg.cli.reach.standard_output import note_done
from thalweg.cli.terminal.render import Column, print_json, print_table
from thalweg.federation.skops_classifier import NO_PICKLES, PICKLES, read_skops

if TYPE_CHECKING:
    from thalweg.learning.shrink.gate import Judged
    from thalweg.learning.shrink.sources import Source

FEWEST: Final = 20
"""Held-out samples: half of them judge, and of fewer than ten nothing follows."""


@click.command(short_help="Make a model small for the edge, or refuse it with what was measured.")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--held-out", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A .npz file of samples that the model was not trained on: x and y.",
)  # fmt: skip
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The small model (.onnx).")
@click.option("--hidden", type=click.IntRange(min=0), default=0, show_default=True, help="Of a .npy: hidden width.")
@click.option("--smaller", type=FiniteRange(min=1), default=4.0, show_default=True, help="At least so many times.")
@click.option("--points", type=FiniteRange(0, 100), default=0.5, show_default=True, help="Most accuracy lost.")
@click.option("--repeats", type=click.IntRange(min=100), default=5_000, show_default=True, help="Answers timed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def shrink(
    model: Path, held_out: Path, out: Path, hidden: int, smaller: float, points: float, repeats: int, as_json: bool
) -> None:
    """Write MODEL as a small ONNX file: fewer units or trees, weights of eight bits.

    MODEL is a classifier: .skops of scikit-learn, .onnx, or .npy, the parameters of a federated run. Pickles are not
    read: to open one is to run what is in it.

    The mildest recipe that passes on half of the held-out samples is judged by the other half: at least --smaller times
    smaller, at most --points of accuracy lost, p99 of an answer's processor time no worse. Otherwise nothing is
    written, and the exit code is 1.

    \b
    Examples:
      thalweg model shrink forest.skops --held-out test.npz --out forest.onnx
      thalweg model shrink final.npy --hidden 32 --held-out test.npz --out digits.onnx --json
    """
    from thalweg.learning.shrink.gate import Limits
    from thalweg.learning.shrink.shrink import shrink as shrunk_by
    from thalweg.learning.shrink.sources import SourceError

    if out.suffix != ".onnx":
        raise WrongCall(f"--out {out}: allowed is a file that ends in .onnx")
    check_output("--out", out)
    x, y = _samples(held_out)
    if model.suffix.lower() == ".npy" and (y.dtype.kind not in "iu" or y.min() < 0):
        raise WrongCall(f"{held_out}: y is of {y.dtype}; for a .npy model allowed are whole numbers from 0")
    try:
        source = _source(model, x.shape[1], y, hidden)
        with tempfile.TemporaryDirectory(prefix="thalweg-shrink-") as scratch:
            found = shrunk_by(
                source, x, y, Limits(times_smaller=smaller, points=points),
                repeats=repeats, timer=time.thread_time_ns, scratch=Path(scratch),
            )  # fmt: skip
    except SourceError as error:
        raise WrongCall(f"{model}: {error}") from error
    judged = found.judged
    if judged.passed:
        out.write_bytes(found.raw)
        note_done(f"{out} written")
    if as_json:
        told = {"model": str(model), "held_out": int(y.size), "judged_by": int(y.size // 2), "repeats": repeats}
        print_json({**told, **_told(judged), "tried": [_told(one) for one in found.tried]})
    else:
        _show(found.judged, found.tried)
    if not judged.passed:
        end(f"{model} is refused, nothing is written: {'; '.join(judged.reasons)}", FAILED)
    if not as_json:
        click.echo(f"{out}: {judged.small.size_bytes:,} bytes")


def _samples(file: Path) -> tuple[Any, Any]:
    import numpy as np

    from thalweg.federation.numpy_file import NumpyFileError, read_arrays

    try:
        x, y = read_arrays(file, "x", "y")
        x = x.astype(np.float32)
    except NumpyFileError as error:
        raise WrongCall(str(error)) from error
    except (TypeError, ValueError) as error:
        raise WrongCall(f"{file}: x is of {x.dtype}; allowed are numbers") from error
    if x.ndim != 2 or y.shape != x.shape[:1] or y.size < FEWEST or not np.isfinite(x).all():
        raise WrongCall(
            f"{file}: x is {x.shape}, y is {y.shape}; allowed are finite numbers, [samples, inputs] and [samples], of "
            f"at least {FEWEST}"
        )
    if y.dtype.kind == "f" and not (y == np.floor(y)).all():
        raise WrongCall(f"{file}: y is of {y.dtype} with fractions; classes are whole numbers or names")
    return x, y


def _source(file: Path, inputs: int, y: Any, hidden: int) -> "Source":
    """Read a model.

    Raises:
        SourceError: it is none that can be made small.
    """
    from thalweg.learning.shrink import sources

    kind = file.suffix.lower()
    if kind in PICKLES:
        raise sources.SourceError(NO_PICKLES)
    if kind == ".npy":
        return _of_parameters(file, inputs, y, hidden)
    if kind == ".skops":
        return read_skops(file, inputs)
    if kind == ".onnx":
        import onnx
        from google.protobuf.message import DecodeError

        try:
            found = onnx.ModelProto.FromString(file.read_bytes())
            onnx.checker.check_model(found)
        except (DecodeError, onnx.checker.ValidationError) as error:
            raise sources.SourceError(f"no ONNX model: {str(error)[:300]}") from error
        return sources.OnnxSource(model=found)
    raise sources.SourceError(f"a file of the kind {kind!r}: allowed are .npy, .skops and .onnx")


def _of_parameters(file: Path, inputs: int, y: Any, hidden: int) -> "Source":
    import numpy as np

    from thalweg.federation.local_samples import SamplesError, shape_of
    from thalweg.federation.numpy_file import NumpyFileError, read_array
    from thalweg.learning.shrink import sources

    try:
        vector = read_array(file)
    except NumpyFileError as error:
        raise WrongCall(str(error)) from error
    if vector.ndim != 1 or vector.dtype.kind not in "fiu" or not np.isfinite(vector).all():
        raise sources.SourceError("wanted is one vector of finite numbers")
    try:
        network = shape_of(vector.size, inputs, hidden, int(y.max()) + 1)
    except SamplesError as error:
        raise sources.SourceError(str(error)) from error
    return sources.NetworkSource(network=network, vector=vector.astype(np.float32))


def _told(judged: "Judged") -> dict[str, Any]:
    def of(measured: Any) -> dict[str, Any]:
        return {
            "size_bytes": measured.size_bytes,
            "accuracy": round(measured.accuracy, 5),
            "p50_us": round(measured.p50_us, 2),
            "p99_us": round(measured.p99_us, 2),
        }

    return {
        "recipe": judged.recipe,
        "passed": judged.passed,
        "times_smaller": round(judged.times_smaller, 3),
        "points_lost": round(judged.points_lost, 3),
        "full": of(judged.full),
        "small": of(judged.small),
        "reasons": list(judged.reasons),
    }


def _show(judged: "Judged", tried: "tuple[Judged, ...]") -> None:
    rows = [
        {
            "recipe": one.recipe,
            "bytes": one.small.size_bytes,
            "times smaller": f"{one.times_smaller:.2f}",
            "points lost": f"{one.points_lost:.2f}",
            "p99 µs": f"{one.small.p99_us:.1f} / {one.full.p99_us:.1f}",
            "by": by,
            "passes": "yes" if one.passed else "no",
        }
        for by, several in (("first half", tried), ("other half", () if judged in tried else (judged,)))
        for one in several
    ]
    print_table([Column(name=name) for name in rows[0]], rows)
