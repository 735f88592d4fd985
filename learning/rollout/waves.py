"""Which edges a wave takes: those whose position, drawn by a digest, is not above a cut. A higher cut takes more.

So waves nest whatever edges come and go, nobody has to remember who was chosen, and another version begins with other
edges.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Final

LAST: Final = 2**53 - 1
"""Largest position: what JSON and a float hold exactly. A cut here takes everybody, who comes later, too."""
NOBODY: Final = -1


def position(model: str, version: str, edge: str) -> int:
    """Draw an edge's position for a version, from 0 to LAST."""
    drawn = hashlib.sha256(f"{model}\0{version}\0{edge}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") >> 11


def cut_of(wave: float, positions: Sequence[int], before: int) -> int:
    """Return the cut that takes a wave of the edges that are known, at least one of them.

    Args:
        wave: share of the edges.
        positions: of all that are known, ascending.
        before: the cut of the wave before; no cut is below it.
    """
    if wave >= 1:
        return LAST
    return max(before, int(positions[math.ceil(wave * len(positions)) - 1]) if len(positions) else NOBODY)


def answers(number: int, edge: str, request: str, share: float) -> bool:
    """Tell whether the new version answers a request, as if a coin fell; the same request meets the same version."""
    drawn = hashlib.sha256(f"{number}\0{edge}\0{request}".encode()).digest()
    return (int.from_bytes(drawn[:8], "big") >> 11) < share * 2**53
