"""How many columns of a terminal a text takes, and a text cut to so many: an emoji takes two, an accent none."""

import unicodedata
from typing import Final

_ELLIPSIS: Final = "…"
_TAKES_NONE: Final = frozenset(("Mn", "Me", "Cf"))


def columns_of(text: str) -> int:
    """Count the columns that a text takes (Unicode Standard Annex 11)."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def cut_end(text: str, widest: int) -> str:
    """Cut a text that takes more than so many columns; an ellipsis stands for its end."""
    return text if columns_of(text) <= widest else _begin(text, widest - 1) + _ELLIPSIS


def cut_middle(text: str, widest: int) -> str:
    """Cut a name that takes more than so many columns, in its middle: names differ at their ends."""
    if columns_of(text) <= widest:
        return text
    end = _begin(text[::-1], (widest - 1) // 2)[::-1]
    return _begin(text, widest - 1 - columns_of(end)) + _ELLIPSIS + end


def _begin(text: str, room: int) -> str:
    for at, character in enumerate(text):
        room -= _columns(character)
        if room < 0:
            return text[:at]
    return text


def _columns(character: str) -> int:
    if unicodedata.category(character) in _TAKES_NONE:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
