"""A terminal with a person at it: runs a command on a pty, keeps what its screen shows, presses Ctrl-C."""

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import IO, Self

from tests.patience import PATIENCE_S

_SEQUENCE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])")
# The terminal becomes the command's controlling one: only then is Ctrl-C typed there an interrupt, as for a person.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """The command's standard input and error are a terminal of its own; its standard output is a pipe.

    Read all the time, as a terminal is: who writes to one that is not read waits.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], *, columns: int = 100) -> None:
        self._terminal, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.columns = columns
        self.written = b""
        """All that the command wrote to the terminal."""
        self._out = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *command],
            env={**environ, "TERM": "xterm-256color"},
            stdin=theirs,
            stderr=theirs,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        os.close(theirs)
        assert self.process.stdout is not None
        self._readers = [
            threading.Thread(target=self._read_terminal),
            threading.Thread(target=self._read_out, args=(self.process.stdout,)),
        ]
        for reader in self._readers:
            reader.start()

    def _read_terminal(self) -> None:
        with contextlib.suppress(OSError):  # how a pty says that nobody holds its other side any more
            while block := os.read(self._terminal, 65_536):
                self.written += block

    def _read_out(self, pipe: IO[bytes]) -> None:
        while block := os.read(pipe.fileno(), 65_536):
            self._out += block

    def enter(self, text: str) -> None:
        """Type some text; what the command does not read yet waits for it."""
        os.write(self._terminal, text.encode())

    def press_ctrl_c(self) -> None:
        """Type the interrupt character."""
        self.enter("\x03")

    def wait(self, met: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
        """Wait until something is met.

        Raises:
            AssertionError: not in time, or the command ended first; the message is the screen.
        """
        limit = time.monotonic() + seconds
        while not met():
            assert time.monotonic() < limit, f"not met within {seconds:g} s:\n{self.screen()}"
            assert self.process.poll() is None, f"ended with {self.process.poll()}:\n{self.screen()}"
            time.sleep(0.1)

    def ended(self, seconds: float = PATIENCE_S) -> int:
        """Wait until the command has ended, and return its exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended within {seconds:g} s:\n{self.screen()}") from None
        for reader in self._readers:
            reader.join(5)
        return code

    def out(self) -> str:
        """Return what was written to standard output so far."""
        return self._out.decode()

    def screen(self) -> str:
        """Return what the terminal shows, with all that scrolled off: lines, redrawn in place as they were."""
        lines: list[list[str]] = [[]]
        row = column = 0
        text = self.written.decode(errors="replace")
        position = 0
        while position < len(text):
            if match := _SEQUENCE.match(text, position):
                position = match.end()
                count = int(match[1]) if match[1].isdigit() else 0
                match match[2]:
                    case "A":
                        row = max(0, row - (count or 1))
                    case "K":
                        lines[row] = [] if count == 2 else lines[row][:column]
                    case "m" | "h" | "l":
                        pass
                    case other:
                        raise AssertionError(f"a sequence that this terminal does not know: {other!r}")
                continue
            character = text[position]
            position += 1
            match character:
                case "\r":
                    column = 0
                case "\n":
                    row += 1
                    if row == len(lines):
                        lines.append([])
                case _:
                    if column == self.columns:
                        row, column = row + 1, 0
                        if row == len(lines):
                            lines.append([])
                    lines[row] += [" "] * (column + 1 - len(lines[row]))
                    lines[row][column] = character
                    column += 1
        return "\n".join("".join(line).rstrip() for line in lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(5)
        os.close(self._terminal)
