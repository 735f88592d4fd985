"""What the code declares in passing, found by reading it: error classes and Prometheus metrics."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from thalweg.conf.environment import PROJECT_ROOT

ROOMS: Final = ("conf", "scheduling", "sync", "streams", "jobs", "thalweg")
_METRIC_KINDS: Final = frozenset({"Counter", "Gauge", "Histogram", "Summary"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorEntry:
    """An exception class of ours."""

    name: str
    module: str
    bases: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricEntry:
    """A metric, by the name that /metrics shows."""

    name: str
    kind: str
    module: str
    meaning: str
    labels: tuple[str, ...]


def public_errors(root: Path = PROJECT_ROOT) -> tuple[ErrorEntry, ...]:
    """Every public exception class, by room and name."""
    found = [
        ErrorEntry(
            name=node.name,
            module=module,
            bases=tuple(ast.unparse(base) for base in node.bases),
            meaning=(ast.get_docstring(node) or "").partition("\n")[0],
        )
        for module, tree in _modules(root)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error") and not node.name.startswith("_")
    ]
    return tuple(sorted(found, key=lambda error: (ROOMS.index(error.module.partition(".")[0]), error.name)))


def public_metrics(root: Path = PROJECT_ROOT) -> tuple[MetricEntry, ...]:
    """Every metric of ours, by name."""
    found = []
    for module, tree in _modules(root):
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _METRIC_KINDS):
                continue
            texts = [ast.literal_eval(arg) for arg in node.args[:2] if isinstance(arg, ast.Constant)]
            if len(texts) != 2 or not str(texts[0]).startswith("thalweg_"):
                continue
            kind = node.func.id.lower()
            # The client library shows a counter with this ending, whether or not it was written out.
            name = texts[0].removesuffix("_total") + "_total" if kind == "counter" else texts[0]
            labels = tuple(ast.literal_eval(node.args[2])) if len(node.args) > 2 else ()
            found.append(MetricEntry(name=name, kind=kind, module=module, meaning=texts[1], labels=labels))
    return tuple(sorted(found, key=lambda metric: metric.name))


def _modules(root: Path) -> Iterator[tuple[str, ast.Module]]:
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            yield module, ast.parse(path.read_text(encoding="utf-8"))
