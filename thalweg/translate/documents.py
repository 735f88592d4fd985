"""YAML and JSON as plain values, each with the line it stands in.

YAML is read by its version 1.2: `no` and `on` are words, 1:30 is no number, and a date is text. A document is never
built larger than it is written: aliases count for what they stand for.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from thalweg.translate.translation import NotUnderstoodError, Path

MOST_VALUES: Final = 200_000
"""In a file, aliases counted for what they stand for: above what a person writes or a loop prints, far below what
would fill the memory."""
DEEPEST: Final = 64
MOST_DIGITS: Final = 300
"""Of a whole number: what is longer is infinite as a float, and Python's own bound is told in words about Python."""
_DIGITS: Final = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_INT: Final = re.compile(r"[-+]?[0-9]{1,300}|0x[0-9a-fA-F]{1,200}|0o[0-7]{1,200}")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: Final = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **dict.fromkeys(("true", "True"), True),
}
_WORDS_OF_YAML: Final[dict[str, object]] = {**_WORDS, "TRUE": True, **dict.fromkeys(("false", "False", "FALSE"), False)}
_PLAIN_TAG: Final = "tag:yaml.org,2002:"
_KNOWN_TAGS: Final = frozenset(_PLAIN_TAG + name for name in ("str", "int", "float", "bool", "null", "map", "seq"))
_LOADER: Final = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """One document of a file."""

    value: Any
    lines: dict[Path, int] = field(default_factory=dict)
    """From 1; empty where the format does not tell."""


def read_documents(text: str) -> list[SourceDocument]:
    """Read all documents of a text: JSON (one value, or one a line) where it begins as that does, else YAML.

    Raises:
        NotUnderstoodError: it is neither; the message names the line.
    """
    if text.lstrip()[:1] in ("{", "["):
        return _read_json(text)
    return _read_yaml(text)


def _read_json(text: str) -> list[SourceDocument]:
    try:
        return [SourceDocument(_of_json(text))]
    except NotUnderstoodError:
        raise
    except RecursionError:
        raise NotUnderstoodError("the file is nested too deep to be read") from None
    except ValueError as whole:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        found = []
        for number, line in lines:
            try:
                found.append(SourceDocument(_of_json(line), {(): number}))
            except NotUnderstoodError as error:
                raise NotUnderstoodError(f"line {number}: {error}") from error
            except (ValueError, RecursionError) as error:
                # A single value over many lines is judged as such, or as the YAML that a flow of braces may be.
                if number == lines[0][0]:
                    return _read_braces(text, whole)
                raise NotUnderstoodError(f"line {number}: {error}") from error
        return found


def _of_json(text: str) -> Any:
    """Read a value; of a name that stands twice the last would count, and nobody would know."""
    return json.loads(text, object_pairs_hook=_once, parse_int=_whole)


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise NotUnderstoodError(_too_long(digits))
    return int(digits)


def _too_long(digits: str) -> str:
    return f"a number of {len(digits):,} digits: allowed are {MOST_DIGITS}"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise NotUnderstoodError(f"{key!r} stands twice, with {found[key]!r:.60} and {value!r:.60}")
        found[key] = value
    return found


def _read_braces(text: str, not_json: ValueError) -> list[SourceDocument]:
    try:
        return _read_yaml(text)
    except NotUnderstoodError:
        raise NotUnderstoodError(f"this begins as JSON does, and is none: {not_json}") from not_json


def _read_yaml(text: str) -> list[SourceDocument]:
    try:
        builder = _Builder()
        return [builder.document(node) for node in yaml.compose_all(text, Loader=_LOADER) if node is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        tab = "; YAML indents by spaces, this line has a tab" if mark and _has_tab(text, mark.line) else ""
        raise NotUnderstoodError(f"{at}{error.problem or error.context}{tab}") from error
    except yaml.YAMLError as error:
        raise NotUnderstoodError(f"this is no YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise NotUnderstoodError("the file is nested too deep to be read") from None


def _has_tab(text: str, line: int) -> bool:
    lines = text.splitlines()
    return line < len(lines) and "\t" in lines[line]


class _Builder:
    """Makes values of nodes, and counts them."""

    def __init__(self) -> None:
        self._count = 0
        self._lines: dict[Path, int] = {}

    def document(self, node: yaml.Node) -> SourceDocument:
        self._lines = {}
        return SourceDocument(self._value(node, ()), self._lines)

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._count += 1
        line = node.start_mark.line + 1
        if self._count > MOST_VALUES:
            raise NotUnderstoodError(
                f"line {line}: more than {MOST_VALUES:,} values, aliases counted for what they are"
            )
        if len(path) > DEEPEST:
            raise NotUnderstoodError(f"line {line}: nested deeper than {DEEPEST}")
        if node.tag is not None and node.tag not in _KNOWN_TAGS:
            raise NotUnderstoodError(f"line {line}: tag {node.tag!r}: allowed are plain values")
        self._lines.setdefault(path, line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        if not node.style and len(node.value) > MOST_DIGITS and _DIGITS.fullmatch(node.value):
            raise NotUnderstoodError(f"line {line}: {_too_long(node.value)}")
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise NotUnderstoodError(f"line {line}: a key is no word")
            key = key_node.value
            if key == "<<" and not key_node.style:
                merged |= self._merged(value_node, path)
                continue
            if key in found:
                raise NotUnderstoodError(f"line {line}: {key!r} stands twice")
            self._lines[*path, key] = line
            found[key] = self._value(value_node, (*path, key))
        return merged | found

    def _merged(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, Any] = {}
        for one in nodes:
            value = self._value(one, path)
            if not isinstance(value, dict):
                raise NotUnderstoodError(f"line {one.start_mark.line + 1}: '<<' takes a mapping")
            found = value | found
        return found


def _scalar(node: yaml.ScalarNode) -> Any:
    text = str(node.value)
    if node.style:
        return text  # in quotes, or a block
    if text in _WORDS_OF_YAML:
        return _WORDS_OF_YAML[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    return float(text.replace(".", "", 1) if _NO_NUMBER.fullmatch(text) else text) if _is_float(text) else text


def _is_float(text: str) -> bool:
    return _FLOAT.fullmatch(text) is not None or _NO_NUMBER.fullmatch(text) is not None
