"""What a setting takes, in people's words: of types as Python writes them a reader of the settings knows nothing."""

import types
import typing
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

_WORDS: Final = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    SecretStr: "secret text",
    type(None): "`null`",
}
_SIGNS: Final = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))


def type_words(field: FieldInfo) -> str:
    """Say what a setting takes, its limits included.

    Raises:
        ValueError: there are no words for its type.
    """
    return _words(field.annotation, field.metadata)


def entry_of(annotation: Any) -> type[BaseModel] | None:
    """Give the group that every entry of a setting is, of one whose entries have names; None of any other."""
    entry = typing.get_args(annotation)[1] if typing.get_origin(annotation) is dict else None
    return entry if isinstance(entry, type) and issubclass(entry, BaseModel) else None


def _words(annotation: Any, limits: Sequence[Any] = ()) -> str:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _words(parts[0], [*_limits_of(parts[1:]), *limits])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in parts)
    if origin in (types.UnionType, typing.Union):
        said = [_words(part, () if part is type(None) else limits) for part in parts]
        return (", or " if any(", " in one for one in said) else " or ").join(said)
    if origin is list:
        return f"list of {_words(parts[0])}"
    if entry_of(annotation) is not None:
        return "entries by NAME, as below"
    if origin is dict:
        return f"entries by {'name' if parts[0] is str else _words(parts[0])}, each {_words(parts[1])}"
    if annotation not in _WORDS:
        raise ValueError(f"no words for a setting of type {annotation!r}; thalweg/reference/setting_types.py has them")
    return _WORDS[annotation] + _limit_words(limits)


def _limits_of(metadata: Iterable[Any]) -> list[Any]:
    return [item for one in metadata for item in (one.metadata if isinstance(one, FieldInfo) else [one])]


def _limit_words(limits: Sequence[Any]) -> str:
    bounds = [
        f"{sign} {_number(value)}"
        for item in limits
        for name, sign in _SIGNS
        if (value := getattr(item, name, None)) is not None
    ]
    said = f" {' and '.join(bounds)}" if bounds else ""
    for item in limits:
        if (least := getattr(item, "min_length", None)) is not None:
            said += ", not empty" if least == 1 else f" of {least:,} characters and more"
        if (pattern := getattr(item, "pattern", None)) is not None:
            said += f" as `{pattern}`"
    return said


def _number(value: float) -> str:
    return f"{value:,}".removesuffix(".0")
