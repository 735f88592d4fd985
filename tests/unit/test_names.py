"""One word, one meaning: no public class of the product bears the name of another."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("scheduling", "learning", "sync", "streams", "jobs", "conf", "thalweg")


def public_classes() -> dict[str, list[str]]:
    """Where each public class name is defined: files, by name."""
    found: dict[str, list[str]] = defaultdict(list)
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if any(folder.is_symlink() for folder in path.parents):
                continue  # thalweg/ links to the other rooms
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(str(path.relative_to(ROOT)))
    return found


def test_no_public_class_name_exists_twice_in_the_product() -> None:
    classes = public_classes()
    assert len(classes) > 300, "the walk finds the product's classes"
    assert {name: files for name, files in classes.items() if len(files) > 1} == {}
