"""`thalweg explain-model MODEL`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from click.core import ParameterSource

from thalweg.cli.reach.output_file import check_output
from thalweg.cli.reach.reading import WrongCall, reading_command
from thalweg.cli.terminal.durations import in_words
from thalweg.cli.terminal.reasons_plot import FORMATS, draw_forecast_reasons, draw_reasons
from thalweg.cli.terminal.render import Column, print_json, print_table
from thalweg.federation.explained_classifier import of_network
from thalweg.federation.local_samples import SamplesError, read_named_samples, read_samples
from thalweg.federation.model_reasons import ReasonsAsked, explained, network_of
from thalweg.federation.numpy_file import NumpyFileError, read_array, read_arrays
from thalweg.federation.onnx_classifier import of_onnx
from thalweg.federation.reasons_file import written_reasons
from thalweg.federation.skops_classifier import NO_PICKLES, PICKLES, read_skops
from thalweg.federation.spark_forest import is_spark_model, read_spark_forest
from thalweg.federation.versions import NoVersionError, read_version
from thalweg.forecast.forecast_reasons import explained_forecast
from thalweg.learning.forecast.columns import ForecastInputError
from thalweg.learning.forecast.forecast_file import no_forecast_yet, read_forecast
from thalweg.learning.vectors.parameters import Vector, VectorError, check_finite, digest, to_bytes
from thalweg.query.sql.as_of import AsOf
from thalweg.scheduling.counted import counted
from thalweg.streams.learning.payloads import PayloadError

_SHIPPED_KINDS: Final = frozenset({".onnx", ".skops"})
"""Of classifiers as they are served, or can be written so that they are."""
_READ_KINDS: Final = frozenset({".npy", ".npz", ".json"}) | _SHIPPED_KINDS
_FOR_CLASSIFIERS: Final = ("samples", "hidden", "repeats", "rounds", "seed", "out", "version", "payloads")
"""Options that say nothing of a forecast: it keeps its rows, and its values are exact."""
_FOR_RUNS: Final = ("hidden", "version", "payloads")
"""Options that say nothing of a classifier in a file."""


@click.command("explain-model", short_help="Explain a model: what it rests on, an answer, what would change it.")
@click.argument("model")
@click.option(
    "--samples",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File (.npz) with `x` and `y` that the model was not trained on; by default MODEL, if it has them.",
)
@click.option("--sample", type=click.IntRange(min=0), default=0, show_default=True, help="Its answer is explained.")
@click.option("--hidden", type=click.IntRange(min=0), help="Width of the hidden layer; by default what fits `y`.")
@click.option("--repeats", type=click.IntRange(2, 1_000), default=5, show_default=True, help="Shuffles of a feature.")
@click.option(
    "--background",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Samples of what is usual.",
)
@click.option(
    "--rounds", type=click.IntRange(2, 10_000), default=10, show_default=True, help="Orders drawn for each of these."
)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="So many features are shown.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--with",
    "changed",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of a forecast: explain the row with this; repeatable.",
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw them, too: a .svg or .png file.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Of a classifier: write them, too, to a .json file that the page shows (`window.classifiers`).",
)
@click.option("--version", type=click.IntRange(min=0), help="Of a run; the newest without it.")
@click.option("--payloads", metavar="URI", help="Folder or URI of the store of payloads; by default beside the tables.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with all features.")
@reading_command
def explain_model(
    model: str,
    samples: Path | None,
    hidden: int | None,
    top: int,
    changed: tuple[str, ...],
    plot: Path | None,
    out: Path | None,
    version: int | None,
    payloads: str | None,
    as_json: bool,
    warehouse: str,
    as_of: AsOf | None,
    **asked: int,
) -> None:
    """Explain a network of a federated run, a classifier as it is shipped, or a forecast.

    MODEL is the name of a run, whose newest version is explained, or a file: .npy from `thalweg federate export`, .npz
    from `thalweg federate run --save`, .onnx as `thalweg model publish` ships it, .skops of scikit-learn; or the folder
    of a tree or a random forest that Spark ML has saved, also in a pipeline behind a VectorAssembler. Shown are the
    points of accuracy that are lost when a feature's values are shuffled; what each feature adds to the score of one
    answer (Shapley values: exact without a hidden layer, else sampled, with their standard errors); and the fewest
    features with which that answer would be another.

    Or MODEL is a .json file from `thalweg forecast --out`. Shown are the loss that is added on what came later when a
    column is shuffled; by how many times each column makes one answer longer or shorter (exact Shapley values of its
    logarithm); and the smallest change of one column that halves it. --sample names a row that the file keeps.

    \b
    Examples:
      thalweg federate run --save digits.npz && thalweg explain-model digits.npz --sample 3 --plot digits.svg
      thalweg explain-model digits --samples held-out.npz --json
      thalweg explain-model final.npy --samples held-out.npz --hidden 32 --repeats 20
      thalweg explain-model forest.onnx --samples held-out.npz --out forest-reasons.json
      thalweg explain-model durations.json --with tenant=research --with gpus=8 --plot why.svg
    """
    if plot is not None and plot.suffix not in FORMATS:
        raise WrongCall(f"--plot {plot}: allowed are files that end in {' or '.join(FORMATS)}")
    if out is not None and out.suffix != ".json":
        raise WrongCall(f"--out {out}: allowed is a file that ends in .json")
    check_output("--plot", plot)
    check_output("--out", out)
    ending = Path(model).suffix.lower()
    if ending in PICKLES:
        raise WrongCall(f"{model}: {NO_PICKLES}")
    if ending not in _READ_KINDS and os.path.isfile(model):
        raise WrongCall(
            f"{model}: a file of a kind that is not read; allowed are {', '.join(sorted(_READ_KINDS))} and the name of "
            "a run"
        )
    if model.endswith(".json"):
        if idle := _given(_FOR_CLASSIFIERS):
            raise WrongCall(
                f"{idle}: allowed for classifiers alone; for forecasts --sample, --background, --top and --with"
            )
        _explain_forecast(Path(model), changed, asked["sample"], asked["background"], top, plot, as_json)
        return
    if changed:
        raise WrongCall("--with: allowed for forecasts alone, .json files from thalweg forecast --out")
    is_shipped = ending in _SHIPPED_KINDS or is_spark_model(Path(model))
    if is_shipped and (idle := _given(_FOR_RUNS)):
        raise WrongCall(f"{idle}: allowed for networks of federated runs alone")
    if samples is None and ending != ".npz":
        raise WrongCall("--samples is wanted: a .npz file with x and y that the model was not trained on")
    try:
        if is_shipped:
            told = _of_shipped(Path(model), samples or Path(model), ReasonsAsked(**asked))
        else:
            file = Path(model) if ending in (".npy", ".npz") else None
            number, parameters = (
                (None, _parameters(file)) if file else read_version(model, version, payloads, warehouse, as_of)
            )
            told = _of_run(number, parameters, samples or Path(model), hidden, ReasonsAsked(**asked))
    except (SamplesError, VectorError) as error:
        raise WrongCall(str(error)) from error
    except (NoVersionError, PayloadError, OSError) as error:
        raise click.ClickException(str(error)) from error
    told = {"model": model} | told
    if out is not None:
        _write(out, written_reasons(told))
    if plot is not None:
        draw_reasons(told, plot, top)
    if as_json:
        print_json(told)
    else:
        _show(told, top)


def _given(names: Sequence[str]) -> str:
    """Name those of some options that were said; empty for none."""
    source = click.get_current_context().get_parameter_source
    return ", ".join(f"--{name}" for name in names if source(name) is ParameterSource.COMMANDLINE)


def _of_run(
    number: int | None, parameters: Vector, samples: Path, hidden: int | None, asked: ReasonsAsked
) -> dict[str, Any]:
    """Explain a network of a run.

    Raises:
        SamplesError: the samples do not fit it.
    """
    held_out = read_samples(samples)
    network = network_of(parameters.size, held_out, hidden)
    told = explained(of_network(network, parameters), held_out.x, held_out.y, asked)
    name = digest(to_bytes(parameters))
    return {"version": number, "sha256": name, "parameters": int(parameters.size)} | told


def _of_shipped(file: Path, samples: Path, asked: ReasonsAsked) -> dict[str, Any]:
    """Explain a classifier as it is shipped, as ONNX, or as Spark saved it; one of scikit-learn is written as ONNX.

    Raises:
        SamplesError: it is none, or the samples do not fit it.
        OSError: the file cannot be read.
    """
    x, y = read_named_samples(samples)
    try:
        if file.is_dir():
            forest, name = read_spark_forest(file, x.shape[1])
            return {"version": None, "sha256": name} | explained(forest, x, y, asked)
        if file.suffix.lower() == ".onnx":
            raw = file.read_bytes()
        else:
            from thalweg.learning.shrink.sources import SourceError  # late: skl2onnx and onnx

            try:
                raw = read_skops(file, x.shape[1]).onnx(1.0).SerializeToString()
            except SourceError as error:
                raise SamplesError(str(error)) from error
        told = explained(of_onnx(raw, x.astype(np.float64)), x, y, asked)
    except SamplesError as error:
        raise SamplesError(f"{file}: {error}") from error
    except ModuleNotFoundError as error:
        extra = "plane" if file.is_dir() else "shrinking"
        raise click.ClickException(f"{error}; {file} needs pip install 'thalweg[{extra}]'") from error
    return {"version": None, "sha256": digest(raw)} | told


def _write(file: Path, raw: bytes) -> None:
    """Write a file whole or not at all: the page may read it at any time."""
    draft = file.with_name(f".{file.name}.draft")
    try:
        draft.write_bytes(raw)
        os.replace(draft, file)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _explain_forecast(
    file: Path, changed: tuple[str, ...], sample: int, background: int, top: int, plot: Path | None, as_json: bool
) -> None:
    try:
        pairs = dict(one.split("=", 1) for one in changed)
    except ValueError as error:
        raise WrongCall(f"--with {' '.join(changed)}: allowed is NAME=VALUE") from error
    try:
        told = explained_forecast(read_forecast(file.read_bytes()), sample, pairs, background)
    except ForecastInputError as error:
        raise WrongCall(f"{file}: {error}") from error
    except FileNotFoundError as error:
        raise WrongCall(no_forecast_yet(file)) from error
    except OSError as error:
        raise WrongCall(f"{file}: {error.strerror}") from error
    told = {"model": str(file)} | told
    if plot is not None:
        draw_forecast_reasons(told, plot, top)
    if as_json:
        print_json(told)
    else:
        _show_forecast(told, top)


def _gpu_hours(number: float) -> str:
    return counted(float(f"{number:.3g}"), "GPU-hour")


_UNITS: Final = {"durations": ("holds its place for", in_words), "demand": ("is for", _gpu_hours)}


def _show_forecast(told: dict[str, Any], top: int) -> None:
    says, unit = _UNITS[told["what"]]
    looks = " > ".join(told["chain"]) or "nothing: all rows are one group"
    ratios = f"; ratios to {told['base']}" if told["has_ratios"] else ""
    click.echo(
        f"{told['model']}: {told['what']}, learnt from {counted(told['rows'], 'row')} of {told['since']} to "
        f"{told['until']}; groups by {looks}{ratios}"
    )
    click.echo(
        f"\nLoss added when a column is shuffled, on {told['tried_on']:,} later rows, to the forecasts that were tried "
        "on\nthese: learnt from what came before them, so that their groups may be others than those above"
    )
    added = Column(name="added", say="{:.4f}".format, right=True)
    deviation = Column(name="deviation", title="±", say="{:.4f}".format, right=True)
    print_table(("feature", added, deviation), told["importance"][:top])
    answer = told["answer"]
    click.echo(
        f"\nRow {answer['sample']} {says} {unit(answer['middle'])}, 80 of 100 between {unit(answer['least'])} and "
        f"{unit(answer['most'])}; usual is {unit(answer['usual'])}, and each column makes that so many times as much"
    )
    times = Column(name="times", say="{:.3g}".format, right=True)
    print_table(("feature", "value", times), answer["values"][:top])
    if not told["halved"]:
        click.echo("\nNo value of one column that was seen would halve it.")
        return
    click.echo("\nIt would be half of that or less if, the smallest change first, any one of these")
    for entry in told["halved"]:
        click.echo(
            f"  {entry['feature']} were {_plain(entry['would_be'])} instead of {_plain(entry['value'])}: "
            f"{unit(entry['answer'])}"
        )


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _parameters(file: Path) -> Vector:
    """Read one vector of parameters: a .npy file, or `parameters` of a .npz file.

    Raises:
        VectorError: it is none.
    """
    try:
        vector = read_array(file) if file.suffix == ".npy" else read_arrays(file, "parameters")[0]
    except NumpyFileError as error:
        raise VectorError(str(error)) from error
    if vector.ndim != 1 or not np.issubdtype(vector.dtype, np.floating):
        raise VectorError(f"{file}: {vector.dtype} of {vector.ndim} dimensions, allowed is one vector of floats")
    vector = np.asarray(vector, np.float32)
    check_finite(vector)
    return vector


def _show(told: dict[str, Any], top: int) -> None:
    version = "" if told["version"] is None else f", version {told['version']}"
    layer = ", " + (f"{told['hidden']} hidden" if told["hidden"] else "no hidden layer") if "hidden" in told else ""
    layer += f", {counted(told['trees'], 'tree')}" if "trees" in told else ""
    click.echo(
        f"{told['model']}{version}: {told['inputs']} inputs{layer}, {told['classes']} classes; "
        f"accuracy {told['accuracy']:.1%} of {told['samples']} samples"
    )
    click.echo("\nPoints of accuracy lost when a feature is shuffled")
    points = Column(name="points_lost", title="points", say="{:.2f}".format, right=True)
    deviation = Column(name="deviation", title="±", say="{:.2f}".format, right=True)
    print_table(("feature", points, deviation), told["importance"][:top])
    answer = told["answer"]
    right = "rightly" if answer["named"] == answer["is"] else f"it is {answer['is']}"
    click.echo(
        f"\nSample {answer['sample']} is named {answer['named']} ({right}): score {answer['score']:.3f}, "
        f"usually {answer['base']:.3f}; of the difference each feature adds"
    )
    adds = Column(name="shapley", title="adds", say="{:+.3f}".format, right=True)
    error = Column(name="error", title="±", say="{:.3f}".format, right=True)
    print_table(("feature", "value", adds, error), answer["values"][:top])
    change = told["counterfactual"]
    if change is None:
        click.echo("\nNo change of few features was found with which it would be named otherwise.")
        return
    click.echo(f"\nIt would be named {change['named']} if, and none of these can be left out,")
    for entry in change["changes"]:
        click.echo(f"  feature {entry['feature']} were {entry['would_be']:g} instead of {entry['value']:g}")
