"""How a supervised process says how it is: ready, how far on its way to that, or in trouble.

It is ready when it makes the file that its supervisor named in the environment, in trouble while words stand in it, and
on its way as long as the words in the file beside it change. One that keeps a pulse touches a third file every second:
a process that is frozen says nothing of itself, and does not touch it either.
"""

import os
import threading
from collections.abc import Mapping
from pathlib import Path

READY_FILE = "THALWEG_READY_FILE"
PULSE_S = 1.0


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


def announce_progress(words: str, environ: Mapping[str, str] = os.environ) -> None:
    """Say how far this process is on its way to being ready: it is not stuck as long as the words change."""
    if file := environ.get(READY_FILE):
        progress_file(Path(file)).write_text(words, encoding="utf-8")


def keep_pulse(environ: Mapping[str, str] = os.environ) -> None:
    """Show from now on, beside whatever this process does, that it gets to run; nothing where nobody asked."""
    if file := environ.get(READY_FILE):
        threading.Thread(target=_beat, args=(pulse_file(Path(file)),), name="pulse", daemon=True).start()


def _beat(file: Path) -> None:
    pause = threading.Event()
    while True:
        file.touch()
        pause.wait(PULSE_S)


def pulse_file(ready_file: Path) -> Path:
    """Return what a process that keeps a pulse touches, beside the file that says ready."""
    return ready_file.with_suffix(".pulse")


def progress_file(ready_file: Path) -> Path:
    """Return where the words of progress are, beside the file that says ready."""
    return ready_file.with_suffix(".progress")
