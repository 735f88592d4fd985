"""How a supervised process says how it is.

It is ready when it makes the file that its supervisor named in the environment, and in trouble while words stand in it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

READY_FILE = "THALWEG_READY_FILE"


def announce_ready(environ: Mapping[str, str] = os.environ) -> None:
    """Say that this process does its work now; nothing happens where nobody asked to be told."""
    if file := environ.get(READY_FILE):
        Path(file).write_text("", encoding="utf-8")


def announce_trouble(words: str, environ: Mapping[str, str] = os.environ) -> None:
    """Say that this process runs and does not do its work; `announce_ready` takes it back."""
    if file := environ.get(READY_FILE):
        Path(file).write_text(words, encoding="utf-8")


def trouble_in(file: Path) -> str:
    """Read what a process says of itself; "" where it is well."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
