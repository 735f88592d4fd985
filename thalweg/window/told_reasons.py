"""What forecasts and classifiers rest on and how good they were, from their files: as it was told when measured."""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from thalweg.federation.reasons_file import ReasonsFile, ReasonsFileError, no_reasons_yet, read_reasons
from thalweg.learning.forecast.columns import ForecastInputError
from thalweg.learning.forecast.forecast_file import ForecastFile, no_forecast_yet, read_forecast

_SHOWN: Final = 6
"""Columns of each, the most important first."""
_MOST_BYTES: Final = 8 * 2**20
"""A file of reasons has some kilobytes; what is larger is another, and would be read for every question."""


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
        found = read(_raw(file))
    except FileNotFoundError:
        return {"name": file.stem, "trouble": not_there(file)}
    except OSError as error:
        return {"name": file.stem, "trouble": f"{file} cannot be read: {error.strerror}"}
    except (ForecastInputError, ReasonsFileError, _NoReasonsError) as error:
        return {"name": file.stem, "trouble": str(error)}
    except RecursionError:
        return {"name": file.stem, "trouble": f"{file}: its JSON is nested too deep to be read"}
    return {"name": file.stem, "trouble": None} | found


class _NoReasonsError(ValueError):
    """The file is not one to read."""


def _raw(file: Path) -> bytes:
    """Read an ordinary file of a bearable size; a pipe or a device would never end.

    Raises:
        OSError: it cannot be read.
        _NoReasonsError: it is another kind of file, or too large.
    """
    with open(file, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as opened:
        about = os.fstat(opened.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise _NoReasonsError(f"{file} is no ordinary file")
        if about.st_size > _MOST_BYTES:
            raise _NoReasonsError(f"{file} has {about.st_size:,} bytes, allowed are {_MOST_BYTES:,}")
        return opened.read(_MOST_BYTES + 1)


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
