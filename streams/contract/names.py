"""Names that a producer chooses, of tasks, nodes, models of GPUs, tenants: characters that can be seen.

What cannot be seen makes two names of what looks like one, wherever it is shown, and what turns the writing round makes
one look like another. Blanks may stand between the characters, and nowhere else: at the ends they cannot be seen.
"""

from functools import cache
from typing import Final

ALLOWED: Final = "characters that can be seen, and blanks between them"
PLAIN: Final = "^[!-~](?:[ -~]*[!-~])?$"
"""What nearly every name is. Of others `can_be_seen` decides."""
_LAST: Final = 0x10FFFF


def can_be_seen(name: str) -> bool:
    """Tell whether a name is one; of an empty one nothing is said."""
    return name.isprintable() and name == name.strip()


def objection(field: str, name: str | None) -> str | None:
    """Say what is wrong with a name; None where nothing is, or there is none.

    Args:
        field: where it stands.
        name: as it was sent.
    """
    if name is None or can_be_seen(name):
        return None
    return f"{field} {name!r:.100}: allowed are {ALLOWED}"


@cache
def unseen_pattern() -> str:
    """Give a regular expression that finds what `can_be_seen` refuses: the same for Java, RE2 and Python."""
    ranges, first = [], None
    for code in range(ord("!"), _LAST + 2):
        seen = code <= _LAST and chr(code).isprintable()
        if seen and first is None:
            first = code
        elif not seen and first is not None:
            ranges.append(f"{_literal(first)}-{_literal(code - 1)}")
            first = None
    return f"[^ {''.join(ranges)}]|^ | $"


def _literal(code: int) -> str:
    return chr(code) if chr(code).isalnum() or code > 127 else f"\\{chr(code)}"
