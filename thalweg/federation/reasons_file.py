"""A file of a classifier's reasons: what `thalweg explain-model --out` writes, and whoever shows them reads."""

from pathlib import Path
from typing import Any, Final

import msgspec

FORMAT: Final = "thalweg-reasons-1"
_WANTED: Final = "wanted is what thalweg explain-model --out writes"


class ReasonsFileError(ValueError):
    """The file holds no reasons of a classifier; the text says what is wrong with it."""


class LostPoints(msgspec.Struct, frozen=True, kw_only=True):
    """What shuffling a feature costs."""

    feature: int
    points_lost: float
    deviation: float


class AddedValue(msgspec.Struct, frozen=True, kw_only=True):
    """What a feature adds to the score of one answer."""

    feature: int
    value: float
    shapley: float
    error: float


class ExplainedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer."""

    sample: int
    named: int | str
    is_: int | str = msgspec.field(name="is")
    score: float
    base: float
    values: tuple[AddedValue, ...]


class WouldBe(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of a counterfactual."""

    feature: int
    value: float
    would_be: float


class OtherAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The fewest changes with which the answer would be another."""

    named: int | str
    changes: tuple[WouldBe, ...]


class ReasonsFile(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; what a newer version tells beside is passed over."""

    format: str
    model: str
    version: int | None
    sha256: str
    """Of the model's file, or of a run's vector."""
    classes: int
    samples: int
    accuracy: float
    importance: tuple[LostPoints, ...]
    answer: ExplainedAnswer
    counterfactual: OtherAnswer | None


def written_reasons(told: dict[str, Any]) -> bytes:
    """Write reasons as `federation.model_reasons.explained` tells them, with `model`, `version` and `sha256`."""
    return msgspec.json.format(msgspec.json.encode({"format": FORMAT, **told}), indent=1) + b"\n"


def read_reasons(raw: bytes) -> ReasonsFile:
    """Read a file.

    Raises:
        ReasonsFileError: it is none.
    """
    try:
        found = msgspec.json.decode(raw, type=ReasonsFile)
    except msgspec.DecodeError as error:
        raise ReasonsFileError(f"no reasons of a classifier: {error}; {_WANTED}") from error
    if found.format != FORMAT:
        raise ReasonsFileError(f"no reasons of a classifier: its format is {found.format!r}; {_WANTED}")
    return found


def no_reasons_yet(file: Path) -> str:
    """Say what to do where a file of reasons is not there."""
    return f"{file}: there is no such file; write it with thalweg explain-model MODEL --samples FILE --out {file}"
