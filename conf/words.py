"""What others say, as it fits into a line of ours."""

from typing import Final

LONGEST: Final = 500
"""Characters of somebody else's words in a line of health: what was seen, and what to do next."""


def cut_short(text: str, longest: int = LONGEST) -> str:
    """Return a text as one line; a long one ends behind a whole word, and an ellipsis says that more was said."""
    line = " ".join(text.split())
    if len(line) <= longest:
        return line
    kept = line[: longest - 1]
    whole, _, _ = kept.rpartition(" ")  # of one word that is longer than all that, a part must do
    return f"{whole} …" if whole else f"{kept}…"
