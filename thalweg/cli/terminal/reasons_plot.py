"""A model's reasons as a picture: what its accuracy rests on, and what each feature adds to one answer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

FORMATS: Final = (".svg", ".png")


def draw_reasons(told: Mapping[str, Any], file: Path, top: int) -> None:
    """Draw the most important features and the largest values of an answer, each with its error.

    Args:
        told: what `federation.model_reasons.explained` gives.
        file: to write; its ending, one of FORMATS, says in which format.
        top: so many of each.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    answer = told["answer"]
    with mpl.rc_context({"svg.hashsalt": "thalweg"}):  # equal reasons give an equal file
        figure = Figure(figsize=(10, 1.5 + 0.3 * top), layout="constrained")
        left, right = figure.subplots(1, 2)
        _bars(left, told["importance"][:top], "points_lost", "deviation")
        left.set_title(f"accuracy {told['accuracy']:.1%} of {told['samples']} samples")
        left.set_xlabel("points of accuracy lost when shuffled (± standard deviation)")
        _bars(right, answer["values"][:top], "shapley", "error")
        right.set_title(f"sample {answer['sample']}: class {answer['named']}, score {answer['score']:.2f}")
        right.set_xlabel(f"added to the usual score of {answer['base']:.2f} (± standard error)")
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else {})


def draw_forecast_reasons(told: Mapping[str, Any], file: Path, top: int) -> None:
    """Draw what a forecast rests on, and by how many times each column makes one answer larger or smaller.

    Args:
        told: what `forecast.forecast_reasons.explained_forecast` gives.
        file: to write; its ending, one of FORMATS, says in which format.
        top: so many of each.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    answer = told["answer"]
    with mpl.rc_context({"svg.hashsalt": "thalweg"}):  # equal reasons give an equal file
        figure = Figure(figsize=(10, 1.5 + 0.3 * min(top, len(answer["values"]))), layout="constrained")
        left, right = figure.subplots(1, 2)
        _bars(left, told["importance"][:top], "added", "deviation")
        left.set_title(f"{told['what']}, {told['tried_on']} later rows")
        left.set_xlabel("loss added when shuffled (± standard deviation)")
        _bars(right, answer["values"][:top], "shapley", None)
        right.set_title(f"row {answer['sample']}: {answer['middle']:.4g}, usual {answer['usual']:.4g}")
        right.set_xlabel("added to the logarithm of what is usual")
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else {})


def _bars(axes: Any, rows: Sequence[Mapping[str, Any]], length: str, error: str | None) -> None:
    places = range(len(rows))
    errors = None if error is None else [row[error] for row in rows]
    axes.barh(places, [row[length] for row in rows], xerr=errors, color="#3b6ea5", capsize=2)
    names = [row["feature"] for row in rows]
    # Of a run's network features have numbers, of a forecast names.
    axes.set_yticks(places, [name if isinstance(name, str) else f"feature {name}" for name in names])
    axes.invert_yaxis()
    axes.axvline(0.0, color="black", linewidth=0.8)
