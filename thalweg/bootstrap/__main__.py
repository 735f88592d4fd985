"""What ``./run`` starts: prepare what is missing, then become the command. Costs some 30 ms when nothing is."""

import os
import sys
from pathlib import Path
from typing import NoReturn

# Run by path, before the project is installed anywhere; the folder of this file is no place to import from.
sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from thalweg.bootstrap import verbs, virtualenv  # noqa: E402
from thalweg.bootstrap.jars import ensure_jars  # noqa: E402
from thalweg.bootstrap.java import ensure_java  # noqa: E402
from thalweg.bootstrap.progress import say  # noqa: E402
from thalweg.conf.environment import SetupIncompleteError  # noqa: E402 (the path above comes first)


def main(arguments: list[str]) -> int:
    """Prepare and run; returns only when something failed or for a developer's verb."""
    try:
        virtualenv.ensure()
    except SetupIncompleteError as error:
        say(str(error))
        return 1
    if Path(sys.prefix) != virtualenv.FOLDER:
        become_python(str(Path(__file__).resolve()), *arguments)
    try:
        ensure_jars(ensure_java())
    except SetupIncompleteError as error:
        say(str(error))
        if arguments[:1] != ["doctor"]:  # which tells what else is wrong
            return 1
    if arguments and (verb := verbs.VERBS.get(arguments[0])):
        return verb[1](arguments[1:])
    # -P: the current directory may hold a folder of the name of one of ours.
    return become_python("-P", "-m", "thalweg.cli.main", *arguments)


def become_python(*arguments: str) -> NoReturn:
    """Let the prepared environment's Python take this process over."""
    os.execv(virtualenv.PYTHON, [str(virtualenv.PYTHON), *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
