"""How a supervised process says how it is: ready, how far on its way to that, or in trouble.

It is ready when it makes the file that its supervisor named in the environment, in trouble while words stand in it, and
on its way as long as the words in the file beside it change. One that keeps a pulse touches a third file every second:
a process that is frozen says nothing of itself, and does not touch it either. What a full disk does not take is no
reason to end: the pulse says it again until it does.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

READY_FILE = "THALWEG_READY_FILE"
PULSE_S = 1.0

_unsaid: dict[Path, str] = {}
_saying = threading.Lock()


def announce_ready(environ: Mapping[str, str] = os.environ) -> None:
    """Say that this process does its work now; nothing happens where nobody asked to be told."""
    if file := environ.get(READY_FILE):
        _say(Path(file), "")


def announce_trouble(words: str, environ: Mapping[str, str] = os.environ) -> None:
    """Say that this process runs and does not do its work; `announce_ready` takes it back."""
    if file := environ.get(READY_FILE):
        _say(Path(file), words)


def trouble_in(file: Path) -> str:
    """Read what a process says of itself; "" where it is well."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""


def announce_progress(words: str, environ: Mapping[str, str] = os.environ) -> None:
    """Say how far this process is on its way to being ready: it is not stuck as long as the words change."""
    if file := environ.get(READY_FILE):
        _say(progress_file(Path(file)), words)


def _say(file: Path, words: str) -> None:
    with _saying:
        _write(file, words)


def _write(file: Path, words: str) -> None:
    try:
        file.write_text(words, encoding="utf-8")
        _unsaid.pop(file, None)
    except OSError:
        _unsaid[file] = words


def say_again() -> None:
    """Write what could not be written."""
    with _saying:
        for file, words in list(_unsaid.items()):
            _write(file, words)


def keep_pulse(environ: Mapping[str, str] = os.environ) -> None:
    """Show from now on, beside whatever this process does, that it gets to run; nothing where nobody asked."""
    if file := environ.get(READY_FILE):
        _beat_beside(pulse_file(Path(file)), threading.Event())


@contextlib.contextmanager
def beating(file: Path) -> Iterator[None]:
    """Keep a pulse for the length of a ``with``, in this very file."""
    ended = threading.Event()
    thread = _beat_beside(file, ended)
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(OSError):
            file.unlink()


def _beat_beside(file: Path, ended: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=_beat, args=(file, ended), name="pulse", daemon=True)
    thread.start()
    return thread


def _beat(file: Path, ended: threading.Event) -> None:
    while True:
        with contextlib.suppress(OSError):
            file.touch()
        say_again()
        if ended.wait(PULSE_S):
            return


def pulse_file(ready_file: Path) -> Path:
    """Return what a process that keeps a pulse touches, beside the file that says ready."""
    return ready_file.with_suffix(".pulse")


def progress_file(ready_file: Path) -> Path:
    """Return where the words of progress are, beside the file that says ready."""
    return ready_file.with_suffix(".progress")
