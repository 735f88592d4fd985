"""Numbers that JSON cannot write: not a number, and infinity.

An encoder writes null for them, and null often means something else: no limit, any price. They are looked for before.
"""

from collections.abc import Mapping
from typing import Any

import msgspec


def not_finite(content: Any) -> tuple[str, float] | None:
    """Find the first number that JSON cannot write, with where it stands (`per_worker.cpus`, `data[0].size_gb`).

    Args:
        content: what is about to be encoded; a text that stands for a number is not looked at.
    """
    left: list[tuple[str, Any]] = [("", content)]
    while left:
        at, value = left.pop()
        if isinstance(value, float):
            if value - value != 0.0:
                return at, value
        elif isinstance(value, msgspec.Struct):
            left += reversed([(_within(at, name), getattr(value, name)) for name in value.__struct_fields__])
        elif isinstance(value, Mapping):
            left += reversed([(_within(at, str(name)), inner) for name, inner in value.items()])
        elif isinstance(value, list | tuple | set | frozenset):
            left += reversed([(f"{at}[{index}]", inner) for index, inner in enumerate(value)])
    return None


def objection(content: Any) -> str | None:
    """Say which number JSON cannot write; None where it can write all of them."""
    if (found := not_finite(content)) is None:
        return None
    at, value = found
    return (
        f"{at} {value}: allowed are finite numbers (null is what JSON would make of it, and null means another thing)"
    )


def _within(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name
