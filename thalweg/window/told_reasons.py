"""What forecasts and classifiers rest on and how good they were, from their files: as it was told when measured."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from thalweg.federation.reasons_file import ReasonsFile, ReasonsFileError, no_reasons_yet, read_reasons
from thalweg.learning.forecast.columns import ForecastInputError
from thalweg.learning.forecast.forecast_file import ForecastFile, no_forecast_yet, read_forecast

_SHOWN: Final = 6
"""Columns of each, the most important first."""


def forecast_reasons(files: Sequence[str]) -> dict[str, Any]:
    """Read forecasts; of one that cannot be read it is said why, and the others are shown."""
    return {
        "forecasts": [_told(Path(file), lambda raw: _forecast(read_forecast(raw)), no_forecast_yet) for file in files]
    }


def classifier_reasons(files: Sequence[str]) -> dict[str, Any]:
    """Read the reasons of classifiers; of a file that cannot be read it is said why, and the others are shown."""
    return {
        "classifiers": [_told(Path(file), lambda raw: _classifier(read_reasons(raw)), no_reasons_yet) for file in files]
    }


def _told(file: Path, read: Callable[[bytes], dict[str, Any]], not_there: Callable[[Path], str]) -> dict[str, Any]:
    try:
        found = read(file.read_bytes())
    except FileNotFoundError:
        return {"name": file.stem, "trouble": not_there(file)}
    except OSError as error:
        return {"name": file.stem, "trouble": f"{file} cannot be read: {error.strerror}"}
    except (ForecastInputError, ReasonsFileError) as error:
        return {"name": file.stem, "trouble": str(error)}
    return {"name": file.stem, "trouble": None} | found


def _forecast(found: ForecastFile) -> dict[str, Any]:
    return {
        "what": found.what,
        "rows": found.rows,
        "until": found.until,
        "tried_on": found.tried_on,
        "scores": [
            {"forecast": name, "loss": score.pinball, "coverage": score.coverage}
            for name, score in found.scores.items()
        ],
        "importance": [{"column": one.column, "added": one.added} for one in found.importance[:_SHOWN]],
    }


def _classifier(found: ReasonsFile) -> dict[str, Any]:
    answer, change = found.answer, found.counterfactual
    return {
        "model": found.model,
        "version": found.version,
        "sha256": found.sha256,
        "classes": found.classes,
        "samples": found.samples,
        "accuracy": found.accuracy,
        "importance": [
            {"column": f"feature {one.feature}", "added": one.points_lost} for one in found.importance[:_SHOWN]
        ],
        "answer": {
            "sample": answer.sample,
            "named": answer.named,
            "is": answer.is_,
            "score": answer.score,
            "base": answer.base,
            "values": [
                {"column": f"feature {one.feature}", "value": one.value, "adds": one.shapley}
                for one in answer.values[:_SHOWN]
            ],
        },
        "counterfactual": None
        if change is None
        else {
            "named": change.named,
            "changes": [
                {"column": f"feature {one.feature}", "value": one.value, "would_be": one.would_be}
                for one in change.changes
            ],
        },
    }
