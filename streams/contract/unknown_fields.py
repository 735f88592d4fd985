"""Fields of a message that nobody reads, and the name that was probably meant.

A topic keeps them, because its messages live longer than a version of ours. Who writes a message by hand wants to know:
a misspelt need is a need that was never asked for.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect

LIKE_ENOUGH: Final = 0.6
"""Of two names' letters, the share that has to agree; difflib's own measure of a good match."""


@dataclass(frozen=True, slots=True)
class UnknownField:
    """A field that nobody reads."""

    path: str
    """Where it stands, as in `per_worker.gpu` or `data[0].gb`."""
    nearest: str | None
    """The known field that was probably meant; None where none is like it."""

    def __str__(self) -> str:
        """Put it into words."""
        return f"unknown field {self.path!r}" + (f" (is {self.nearest!r} meant?)" if self.nearest else "")


def unknown_fields(content: Mapping[str, Any], message: type[msgspec.Struct]) -> list[UnknownField]:
    """Find the fields of a message's content that its type does not have, in order."""
    return [
        UnknownField(path, _nearest(path, name, tuple(known), message))
        for path, name, known in _unknown(content, message, "")
    ]


def _unknown(content: Any, kind: type[msgspec.Struct], at: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    known = _struct_fields(kind)
    for key, value in content.items():
        name = str(key)  # as it is in JSON
        if name not in known:
            yield f"{at}{name}", name, known
            continue
        inner = known[name]
        if inner is None:
            continue
        if isinstance(value, Mapping):
            yield from _unknown(value, inner, f"{at}{name}.")
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                if isinstance(item, Mapping):
                    yield from _unknown(item, inner, f"{at}{name}[{number}].")


@cache
def _struct_fields(kind: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct] | None]:
    """By the fields' names, the message type within each; None where there is none."""
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    return {field.encode_name: _struct_within(field.type) for field in described.fields}


def _struct_within(kind: inspect.Type) -> type[msgspec.Struct] | None:
    if isinstance(kind, inspect.StructType):
        found: type[msgspec.Struct] = kind.cls
        return found
    if isinstance(kind, inspect.ListType):
        return _struct_within(kind.item_type)
    if isinstance(kind, inspect.UnionType):
        return next(filter(None, map(_struct_within, kind.types)), None)
    return None


@cache
def _paths(message: type[msgspec.Struct], at: str = "") -> dict[str, str]:
    """Every field of a message by its name, with its path; one of an outer message before those within."""
    fields = _struct_fields(message)
    paths = {name: f"{at}{name}" for name in fields}
    for name, inner in fields.items():
        if inner is not None:
            paths = _paths(inner, f"{at}{name}.") | paths
    return paths


def _nearest(path: str, name: str, known: tuple[str, ...], message: type[msgspec.Struct]) -> str | None:
    """The field of that name elsewhere in the message, or one of a name like it: in the same place before others."""
    everywhere = _paths(message)
    if name in everywhere:
        return everywhere[name]
    if here := difflib.get_close_matches(name.lower(), known, 1, LIKE_ENOUGH):
        return path.removesuffix(name) + here[0]
    if there := difflib.get_close_matches(name.lower(), list(everywhere), 1, LIKE_ENOUGH):
        return everywhere[there[0]]
    return None
