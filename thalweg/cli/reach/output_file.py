"""A file that a command is to write: looked at before the work begins, which may take minutes."""

import os
from pathlib import Path

from thalweg.cli.reach.reading import WrongCall


def check_output(option: str, file: Path | None) -> None:
    """Refuse a place where no file can be written; None is none.

    Raises:
        WrongCall: its folder is not there, or may not be written to.
    """
    if file is None:
        return
    if not file.parent.is_dir():
        raise WrongCall(f"{option} {file}: there is no folder {file.parent}")
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise WrongCall(f"{option} {file}: it cannot be written")
