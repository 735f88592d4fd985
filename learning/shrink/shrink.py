"""Make a model small: the mildest recipe that passes on half of the held-out samples is judged by the other half.

It has to pass both: what was chosen because it did well on some samples did well on them partly by chance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from thalweg.learning.local.network import Features
from thalweg.learning.shrink.eight_bits import can_be_written_in_eight_bits, in_eight_bits
from thalweg.learning.shrink.gate import Judged, Limits, judge
from thalweg.learning.shrink.sources import Source
from thalweg.learning.shrink.trial import Timer, Truth, measured

SHARES: Final = {
    "units": (1.0, 0.984375, 0.96875, 0.9375, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25),
    "trees": (0.25, 0.1875, 0.125, 0.0625),
    "": (1.0,),
}
"""Shares of a model's parts that are tried, the mildest first. Of a forest a quarter is the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is made small."""

    share: float
    """Of its parts, that stays."""
    parts: str
    eight_bits: bool

    def __str__(self) -> str:
        said = [f"{self.share:g} of its {self.parts}"] if self.parts and self.share < 1 else []
        return ", ".join([*said, *(["weights of 8 bits"] if self.eight_bits else [])]) or "as it was"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """What became of it."""

    judged: Judged
    """By the half that nothing was chosen by; where nothing passed on the first one, the nearest to it there."""
    tried: tuple[Judged, ...]
    """By the half that the recipe was chosen by, in the order in which they were tried."""
    raw: bytes
    """The small model, ONNX; to be used only where it passed."""


def recipes(source: Source, *, eight_bits: bool) -> Iterator[Recipe]:
    """Say what is tried, the mildest first."""
    for share in SHARES[source.parts]:
        yield Recipe(share=share, parts=source.parts, eight_bits=eight_bits)


def shrink(
    source: Source, x: Features, y: Truth, limits: Limits, *, repeats: int, timer: Timer, scratch: Path
) -> Shrunk:
    """Make a model small, and judge it.

    Args:
        source: the model.
        x: held-out samples, in the order in which they were drawn.
        y: their classes.
        limits: of the gate.
        repeats: answers that are timed.
        timer: processor time of this thread, in nanoseconds.
        scratch: folder for drafts.

    Raises:
        SourceError: the model cannot be written, or does not take these samples.
    """
    chosen_by = np.ascontiguousarray(x[0::2]), y[0::2]
    judged_by = np.ascontiguousarray(x[1::2]), y[1::2]
    whole = source.onnx(1.0)
    full = whole.SerializeToString()
    eight = can_be_written_in_eight_bits(whole)
    tried: list[Judged] = []
    made: list[bytes] = []
    for recipe in recipes(source, eight_bits=eight):
        model = source.onnx(recipe.share)
        raw = (in_eight_bits(model, scratch) if recipe.eight_bits else model).SerializeToString()
        both = measured(full, raw, *chosen_by, max(1, repeats // 5), timer)
        tried.append(judge(str(recipe), *both, limits))
        made.append(raw)
        if tried[-1].passed:
            break
    best = min(range(len(tried)), key=lambda number: (len(tried[number].reasons), number))
    if not tried[best].passed:
        return Shrunk(judged=tried[best], tried=tuple(tried), raw=made[best])
    both = measured(full, made[best], *judged_by, repeats, timer)
    return Shrunk(judged=judge(tried[best].recipe, *both, limits), tried=tuple(tried), raw=made[best])
