"""What the machines of a region saw: every run's begin and end, on a steady clock, whatever the agent believes.

One file for each life of an agent's process, mapped and of a fixed size: a full disk or a kill takes nothing from it.
"""

import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

SIZE: Final = 16 * 1_048_576
"""Bytes of a file, which stay holes until they are written: 100,000 lines."""

_ENCODER: Final = msgspec.json.Encoder()


class JournalSeat(msgspec.Struct, frozen=True, array_like=True):
    """Part of a GPU that a run sits on."""

    node_id: str
    device: int
    milli: int


class JournalLine(msgspec.Struct, frozen=True, array_like=True):
    """Something that happened to a run."""

    at_ns: int
    """On the machine's steady clock."""
    what: str
    """begin, resume (by a later life of the agent), succeeded, failed, stopped."""
    region: str
    task_id: str
    epoch: int
    seats: list[JournalSeat] = []


class Journal:
    """Of one life."""

    def __init__(self, folder: Path, steady_ns: Callable[[], int]) -> None:
        """Begin a new file in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self._steady_ns = steady_ns
        with (folder / f"{steady_ns():020d}-{os.getpid()}.jsonl").open("x+b") as file:
            file.truncate(SIZE)
            self._page = mmap.mmap(file.fileno(), SIZE)

    def note(self, what: str, key: tuple[str, str, int], seats: list[JournalSeat] | None = None) -> None:
        """Write a line."""
        line = JournalLine(self._steady_ns(), what, *key, seats or [])
        self._page.write(_ENCODER.encode(line) + b"\n")


_LINE: Final = msgspec.json.Decoder(JournalLine)


def read_journal(path: Path) -> Iterator[JournalLine]:
    """Read a life's lines in order; it may still be written."""
    for line in path.read_bytes().rstrip(b"\0").split(b"\n"):
        if line.endswith(b"]"):
            yield _LINE.decode(line)
