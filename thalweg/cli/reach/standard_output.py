"""Standard output that cannot be written: told in one line, with what the command has done all the same.

What writes to it is many (`click.echo`, rich, csv); that it is full or gone is told in one place, at the command's end.
A reader that has gone (EPIPE, `| head -1`) is nobody's trouble, and is told to nobody, as click does.
"""

import io
import os
import sys
from collections.abc import Sequence
from typing import Final

_FIRST: Final = 5
"""So many of many things are named."""

_DONE: Final[list[str]] = []
"""What this process, which is one command, has done so far that stays done."""


class OutputLostError(Exception):
    """Standard output cannot be written; the text is the system's.

    It is no OSError: who expects one of a file or a socket means that.
    """


class _Stdout(io.FileIO):
    """The file behind standard output."""

    def write(self, data: "bytes | bytearray | memoryview[int]") -> int:  # type: ignore[override]
        """Write; say whose trouble it is where that fails."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputLostError(error.strerror) from error


def watch_standard_output() -> None:
    """Let trouble with standard output be told from other trouble; where it is closed, nobody wants to read it."""
    given = sys.stdout
    if given is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until the process ends)
        return
    if given is not sys.__stdout__ or not isinstance(given, io.TextIOWrapper):
        return  # somebody has put something else in its place
    file = _Stdout(given.fileno(), "w", closefd=False)
    is_buffered = isinstance(given.buffer, io.BufferedWriter)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(file) if is_buffered else file,  # raw, as Python has it for -u
        encoding=given.encoding,
        errors=given.errors,
        newline="\n",
        line_buffering=given.line_buffering,
        write_through=not is_buffered,
    )


def note_done(words: str, which: Sequence[str] = ()) -> None:
    """Note what has been done and stays so, whatever becomes of the words about it; `which` are named behind it."""
    more = ", …" if len(which) > _FIRST else ""
    _DONE.append(f"{words}: {', '.join(which[:_FIRST])}{more}" if which else words)


def flush_standard_output() -> bool:
    """Write what has not been written yet; tell whether somebody reads it.

    Raises:
        OutputLostError: it cannot be written.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _write_nowhere()
        return False
    return True


def lost_words(error: OutputLostError) -> str:
    """Say in one line that nothing more can be said, and what was done before."""
    _write_nowhere()
    done = "; ".join(_DONE)
    return f"{done}{'; but ' if done else ''}standard output cannot be written: {error}"


def _write_nowhere() -> None:
    """Let what is still buffered go nowhere: at the process' end it would be tried again."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
