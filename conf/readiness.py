"""How a supervised process says that it is ready, and until then that it gets on: by files its supervisor looks at."""

import os
from collections.abc import Mapping
from pathlib import Path

READY_FILE = "THALWEG_READY_FILE"


def announce_ready(environ: Mapping[str, str] = os.environ) -> None:
    """Say that this process does its work now; nothing happens where nobody asked to be told."""
    if file := environ.get(READY_FILE):
        Path(file).touch()


def announce_progress(words: str, environ: Mapping[str, str] = os.environ) -> None:
    """Say how far this process is on its way to being ready: it is not stuck as long as the words change."""
    if file := environ.get(READY_FILE):
        progress_file(Path(file)).write_text(words, encoding="utf-8")


def progress_file(ready_file: Path) -> Path:
    """Return where the words of progress are, beside the file that says ready."""
    return ready_file.with_suffix(".progress")
