"""YAML that people write: a tree of plain values, and the line in which each begins; or words and a line.

PyYAML takes the last of two equal keys, follows an alias into itself, exhausts the stack on what nests deep, and lets
Python say what is wrong with a number. All YAML of ours is read here, so that none of this reaches who wrote it.
(Task files are YAML of others, and of another version: `translate.documents`.)
"""

from dataclasses import dataclass, field
from typing import Any, Final

import yaml

DEEPEST: Final = 64
"""Levels: no file of ours has ten, and the stack bears more than this wherever it is read on."""
MOST_REPEATED: Final = 100_000
"""Values that aliases stand for, all in all: a file may be as long as it likes, but not without being written."""
MOST_DIGITS: Final = 300
"""Of a whole number: a float ends there, and Python's own bound (4,300) is told in words about Python."""

At = tuple[str, ...]
"""Keys from the root; of an item of a list its number."""


class YamlTreeError(ValueError):
    """It cannot be read, or means two things. The words are safe to show: no value is among them."""

    def __init__(self, words: str, mark: Any = None, *, details: str = "") -> None:
        where = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        super().__init__(f"{words}{where}")
        self.in_full = f"{self}: {details}" if details else str(self)
        """With what the parser says, which may quote what is written."""


@dataclass(frozen=True, slots=True)
class YamlTree:
    """What a text says."""

    value: Any
    lines: dict[At, int] = field(default_factory=dict)
    """In which line each key and each item of a list begins, from 1."""


def read_tree(text: str) -> YamlTree:
    """Read one document.

    Raises:
        YamlTreeError: it is no YAML, or more than one document, nests too deep, repeats itself without end, has a key
            twice, or a number or date that is none.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return YamlTree(None)
        return YamlTree(loader.construct_document(node), _lines(node))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlTreeError(f"no YAML: a character that is not allowed in line {line}", details=error.reason) from None
    except yaml.MarkedYAMLError as error:
        details = " ".join(filter(None, (error.context, error.problem)))
        raise YamlTreeError("no YAML", error.problem_mark or error.context_mark, details=details) from None
    except yaml.YAMLError as error:
        raise YamlTreeError("no YAML", details=" ".join(str(error).split())) from None


class _Loader(yaml.SafeLoader):
    """Measures what it composes, and says where a value is none."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._repeated = 0
        self._measures: dict[int, tuple[int, int]] = {}
        """Values and levels of each whole node, aliases counted for what they stand for; the tree keeps the nodes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node, unless it has no end, or its likes would have none."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._depth += 1
        self._check_depth(self._depth, event.start_mark)
        node = super().compose_node(parent, index)
        assert node is not None  # only an event of the parser that is none of a value's gives none
        if isinstance(event, yaml.AliasEvent):
            self._check_alias(node, event.start_mark)
        else:
            self._measures[id(node)] = self._measure(node)
        self._depth -= 1
        return node

    def _check_depth(self, depth: int, mark: Any) -> None:
        if depth > DEEPEST:
            raise YamlTreeError(f"nested deeper than the {DEEPEST} levels that are allowed", mark)

    def _check_alias(self, node: yaml.Node, mark: Any) -> None:
        if id(node) not in self._measures:
            raise YamlTreeError("an alias within what it stands for, which would never end,", mark)
        values, levels = self._measures[id(node)]
        self._check_depth(self._depth + levels - 1, mark)
        self._repeated += values
        if self._repeated > MOST_REPEATED:
            raise YamlTreeError(f"aliases stand for more than the {MOST_REPEATED:,} values that are allowed", mark)

    def _measure(self, node: yaml.Node) -> tuple[int, int]:
        if isinstance(node, yaml.ScalarNode):
            return 1, 1
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            within = [self._measures[id(one)] for pair in node.value for one in pair]
        else:
            within = [self._measures[id(one)] for one in node.value]
        return 1 + sum(values for values, _ in within), 1 + max((levels for _, levels in within), default=0)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Make a value of a node."""
        if node.tag == _INT and len(node.value) > MOST_DIGITS:
            raise YamlTreeError(f"a number of {len(node.value):,} digits: allowed are {MOST_DIGITS}", node.start_mark)
        try:
            return super().construct_object(node, deep)
        except YamlTreeError:
            raise
        except (ValueError, LookupError, ArithmeticError, TypeError, AttributeError):
            kind = node.tag.rpartition(":")[2]
            raise YamlTreeError(f"a value that looks like a YAML {kind} and is none", node.start_mark) from None


_INT: Final = "tag:yaml.org,2002:int"
_MERGE: Final = "tag:yaml.org,2002:merge"


def _check_keys(node: yaml.MappingNode) -> None:
    """Of a key that stands twice the last would count, and nobody would know."""
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
            continue
        line, known = key.start_mark.line + 1, (key.tag, key.value)
        if known in lines:
            raise YamlTreeError(f"{key.value!r:.80} stands twice, in line {lines[known]} and in line {line}")
        lines[known] = line


def _lines(root: yaml.Node) -> dict[At, int]:
    """In which line each key and each item of a list begins."""
    found: dict[At, int] = {}
    left: list[tuple[yaml.Node, At]] = [(root, ())]
    while left:
        within, path = left.pop()
        if isinstance(within, yaml.MappingNode):
            children = [(k.value if isinstance(k, yaml.ScalarNode) else "", k, value) for k, value in within.value]
        elif isinstance(within, yaml.SequenceNode):
            children = [(str(place), item, item) for place, item in enumerate(within.value)]
        else:
            continue
        for name, said, value in children:
            found[*path, name] = said.start_mark.line + 1
            left.append((value, (*path, name)))
    return found
