"""Counts in words that people read agree with their number, wherever they are said."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from thalweg.scheduling.counted import counted

ROOT = Path(__file__).parents[3]
PROOFS = ("thalweg/audit", "thalweg/bootstrap", "thalweg/chaos", "thalweg/proof")
"""Their words are for who works on this tree."""
ROOMS = ("scheduling", "learning", "sync", "streams", "jobs", "conf", "thalweg")
MANY = re.compile(
    r"(more |other )?(GPUs|CPUs|tasks|copies|workers|nodes|regions|elements|rows|records|files|requests|topics|messages"
    r"|pools|partitions|groups|attempts|brokers|tombstones|conflicts)\b(?!/)"
)


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 GPUs"), (1, "1 GPU"), (1.0, "1 GPU"), (0.5, "0.5 GPUs"), (1.5, "1.5 GPUs"), (2, "2 GPUs"),
     (0.9999999, "1 GPU"), (100, "100 GPUs"), (1_024, "1,024 GPUs"), (1e9, "1,000,000,000 GPUs")],
)  # fmt: skip
def test_a_number_and_its_unit_agree(number: float, said: str) -> None:
    assert counted(number, "GPU") == said


def test_what_has_a_plural_of_its_own_is_given_it() -> None:
    assert counted(1, "copy is", "copies are") == "1 copy is"
    assert counted(3, "copy is", "copies are") == "3 copies are"


def said_without() -> Iterator[str]:
    """Find f-strings in which a figure that may be 1 stands before a plural."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if any(folder.is_symlink() for folder in path.parents) or str(path.relative_to(ROOT)).startswith(PROOFS):
                continue  # thalweg/ links to the other rooms
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if not isinstance(node, ast.JoinedStr):
                    continue
                for value, after in zip(node.values, node.values[1:], strict=False):
                    if not (isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)):
                        continue
                    figure = ast.unparse(value.value)
                    if MANY.match(str(after.value).removeprefix(" ")) and not is_always_many(figure):
                        yield f"{path.relative_to(ROOT)}: {ast.unparse(node)}"


def is_always_many(figure: str) -> bool:
    """A limit is a constant of ours, in capitals, and never 1; who is counted has said it by itself."""
    return figure.rpartition(".")[2].isupper() or figure.startswith("counted(")


def test_counts_are_said_by_counted_wherever_they_may_be_one() -> None:
    assert list(said_without()) == []
