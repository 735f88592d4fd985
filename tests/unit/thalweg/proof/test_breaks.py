"""The placement line, broken on purpose: every mistake shows in the books of some history."""

import re
from typing import Final

import pytest

from thalweg.proof.breaks import BREAKS
from thalweg.proof.campaign import found, judged
from thalweg.proof.histories import history
from thalweg.sync.proof.mutants import Mutant, broken

MOST_TRIED = 120
"""Histories in which a break must show; most show in the first few."""
SHOWS_IN: Final[dict[str, int]] = {
    "always knew": 113,
    "any epoch": 124,
    "decide again": 25,
    "goes on": 104,
    "heard or not": 4,
    "never again": 1,
    "never freed": 1,
    "never lost": 21,
    "never repaired": 15,
    "no claim": 3,
    "no flush": 10,
    "old id believed": 3,
    "out of the box": 13,
    "refused once": 30,
    "taken twice": 52,
    "tell first": 28,
    "two on one GPU": 1,
}
"""Where a break was seen to show, if not in the first history: tried first, because each is seconds of work."""
_CLUMSY: Final = re.compile(r"AttributeError|NameError|TypeError|ValueError: steps|no driver lives")
"""Of a break that does not fit what it breaks, and of what follows from that alone."""


@pytest.mark.parametrize("mistake", BREAKS, ids=lambda one: one.name)
def test_what_is_broken_on_purpose_is_found(mistake: Mutant) -> None:
    with broken(mistake):
        seeds = [SHOWS_IN.get(mistake.name, 0), *range(MOST_TRIED)]
        assert any(_fails(seed) for seed in seeds), mistake.mistake


def _fails(seed: int) -> bool:
    """Tell whether the books, or a second line of defence, see the mistake; that it is badly written does not count."""
    try:
        return any(not _CLUMSY.search(words) for words in judged(history(seed))[0])
    except (AttributeError, NameError, TypeError):
        return False
    except Exception:
        return True  # a process that the trouble does not kill has ended


def test_a_failing_history_is_made_small_and_told() -> None:
    (mistake,) = (one for one in BREAKS if one.name == "old epoch")
    with broken(mistake):
        told = found(next(seed for seed in range(MOST_TRIED) if judged(history(seed))[0]))
    assert told.violations
    assert 1 <= len(told.acts) <= 3
    assert told.replay == f"thalweg place-sim --histories 1 --seed {told.seed}"
