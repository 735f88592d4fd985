"""What forecasts rest on and how good they were, from their files: as they were told when they were learnt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from thalweg.learning.forecast.columns import ForecastInputError
from thalweg.learning.forecast.forecast_file import ForecastFile, no_forecast_yet, read_forecast

_SHOWN: Final = 6
"""Columns of each, the most important first."""


def forecast_reasons(files: Sequence[str]) -> dict[str, Any]:
    """Read forecasts; of one that cannot be read it is said why, and the others are shown."""
    return {"forecasts": [_told(Path(file)) for file in files]}


def _told(file: Path) -> dict[str, Any]:
    try:
        found = read_forecast(file.read_bytes())
    except FileNotFoundError:
        return {"name": file.stem, "trouble": no_forecast_yet(file)}
    except OSError as error:
        return {"name": file.stem, "trouble": f"{file} cannot be read: {error.strerror}"}
    except ForecastInputError as error:
        return {"name": file.stem, "trouble": str(error)}
    return {"name": file.stem, "trouble": None} | _reasons(found)


def _reasons(found: ForecastFile) -> dict[str, Any]:
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
