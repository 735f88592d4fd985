"""A training of one's own, named by where it lies: `train.py:train`, or `package.module:train`."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import cast

from thalweg.federation.participant import Train


class TrainingError(Exception):
    """There is no such training; the text says what was looked for."""


def own_training(named: str) -> Train:
    """Load a function that trains; it is called as `thalweg.federation.participant.Train` says.

    Args:
        named: file that ends in .py, or module, a colon, and the function's name.

    Raises:
        TrainingError: there is none.
    """
    place, separator, function = named.rpartition(":")
    if not separator or not place or not function:
        raise TrainingError(f"training {named!r}: allowed is FILE.py:FUNCTION or MODULE:FUNCTION")
    found = getattr(_module(place), function, None)
    if not callable(found):
        raise TrainingError(f"training {named!r}: {place} has no function {function}")
    return cast("Train", found)


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise TrainingError(f"training {place}: {error}") from error
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    if spec is None or spec.loader is None or not Path(place).is_file():
        raise TrainingError(f"training {place}: there is no such file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
