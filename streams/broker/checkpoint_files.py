"""The few things that we do with the files of a query's checkpoint, and how a local folder does them.

S3: `streams.broker.stored_checkpoint`.
"""

import os
from pathlib import Path
from typing import Protocol

ASIDE = "set-aside"
"""Beside a checkpoint: those that were moved out of its way."""


class CheckpointFiles(Protocol):
    """A checkpoint's files; names are relative to it."""

    place: str

    def read(self, name: str) -> str:
        """Read a file.

        Raises:
            OSError: it is not there, or the store does not answer.
        """

    def names(self, part: str) -> list[str]:
        """Return the names of what lies in a folder of it; none where there is no such folder."""

    def begin(self) -> None:
        """Let there be a checkpoint here, though nothing is in it yet."""

    def replace(self, name: str, text: str) -> None:
        """Write a file as a whole: a kill leaves the old or the new.

        Raises:
            FileNotFoundError: there is no checkpoint here any more.
        """

    def set_aside(self, last: str) -> str:
        """Move all of it out of the way, to where it can be looked at, and return where.

        Args:
            last: moved after all others, where they cannot be moved at once.
        """


class LocalFiles:
    """A folder of this machine, or one that it has mounted."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._folder = Path(place)

    def read(self, name: str) -> str:
        """Read a file."""
        return (self._folder / name).read_text(encoding="utf-8")

    def names(self, part: str) -> list[str]:
        """Return the names of what lies in a folder."""
        folder = self._folder / part
        return [file.name for file in folder.iterdir()] if folder.is_dir() else []

    def begin(self) -> None:
        """Make the folder."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def replace(self, name: str, text: str) -> None:
        """Write a file beside, and move it into place when it is on the disk."""
        fresh = self._folder / f"{name}.new"
        with fresh.open("w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        fresh.rename(self._folder / name)

    def set_aside(self, last: str) -> str:
        """Rename the folder."""
        aside = self._folder.parent / ASIDE
        aside.mkdir(exist_ok=True)
        number = sum(1 for _ in aside.glob(f"{self._folder.name}-*")) + 1
        while (target := aside / f"{self._folder.name}-{number}").exists():
            number += 1
        self._folder.rename(target)
        return str(target)
