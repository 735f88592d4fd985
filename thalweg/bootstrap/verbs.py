"""What ./run does for developers beside the commands of thalweg; each verb is one thing, and CI calls the same ones."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from thalweg.bootstrap import checks

Verb = Callable[[list[str]], int]


def _program(name: str, *fixed: str) -> Verb:
    return lambda more: checks.run_steps([(name, [str(Path(sys.prefix) / "bin" / name), *fixed, *more])])


def _module(name: str) -> Verb:
    return lambda more: checks.run_steps([(name, [sys.executable, "-P", "-m", name, *more])])


VERBS: Final[Mapping[str, tuple[str, Verb]]] = {
    "test": ("every check; what follows goes to pytest", checks.run_all),
    "test-flower": (
        "the tests of Flower's grids, in an environment of their own; what follows goes to pytest",
        _module("thalweg.bootstrap.flower_environment"),
    ),
    "lint": ("the checks that run no code: what a commit must pass", lambda _: checks.run_steps(checks.lint_steps())),
    "format": ("lay the code out", _program("ruff", "format")),
    "wheel": ("build the wheel and use it where nothing of the tree is", _module("thalweg.bootstrap.try_wheel")),
    "docs": ("write the generated documents anew", _module("thalweg.reference.write")),
    "new-version": ("make the next version of what lies in changelog.d", _module("thalweg.bootstrap.release")),
}
