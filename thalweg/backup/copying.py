"""Copy files that others write meanwhile, hash them on the way, and hand them to the disk."""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from thalweg.backup.manifest import FileMark
from thalweg.sync.delta.durable import make_folder, sync_folder

PIECE: Final = 1 << 20
"""Bytes read at a time: a copy takes no memory worth naming."""

Progress = Callable[[int], None]
"""Told of bytes that were copied."""


class Copier:
    """Copies into one folder, and knows what it copied."""

    def __init__(self, target: Path, progress: Progress = lambda _: None) -> None:
        self.target = target
        self.marks: dict[str, FileMark] = {}
        self._progress = progress

    def copy(self, source: Path, name: str) -> None:
        """Copy a file as long as it is now; what is added meanwhile is left out.

        Raises:
            FileNotFoundError: it is not there (any more).
        """
        with source.open("rb") as reader:
            left = os.fstat(reader.fileno()).st_size

            def pieces() -> Iterable[bytes]:
                nonlocal left
                while left and (piece := reader.read(min(PIECE, left))):
                    left -= len(piece)
                    yield piece

            self._write(name, pieces())

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the copy's own."""
        self._write(name, [content])

    def add(self, name: str) -> None:
        """Take in a file that was written into the folder by other means."""
        digest, size = hashlib.sha256(), 0
        with (self.target / name).open("rb") as reader:
            while piece := reader.read(PIECE):
                digest.update(piece)
                size += len(piece)
            os.fsync(reader.fileno())
        self._note(name, size, digest.hexdigest())

    def forget(self, folder: str) -> None:
        """Delete what was copied into a folder: it changed meanwhile, and is copied again."""
        for name in [name for name in self.marks if name.startswith(f"{folder}/")]:
            (self.target / name).unlink()
            del self.marks[name]

    def settle(self) -> None:
        """Wait until every name is on the disk; the content is already."""
        folders = {self.target, *((self.target / name).parent for name in self.marks)}
        for folder in sorted(folders):
            sync_folder(folder)

    def _write(self, name: str, pieces: Iterable[bytes]) -> None:
        place = self.target / name
        make_folder(place.parent)
        digest, size = hashlib.sha256(), 0
        with place.open("wb") as writer:
            for piece in pieces:
                writer.write(piece)
                digest.update(piece)
                size += len(piece)
            writer.flush()
            os.fsync(writer.fileno())
        self._note(name, size, digest.hexdigest())

    def _note(self, name: str, size: int, sha256: str) -> None:
        self.marks[name] = FileMark(size=size, sha256=sha256)
        self._progress(size)
