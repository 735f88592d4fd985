"""The store of payloads: bytes under their SHA-256, so that a reference cannot come to mean something else.

Whoever writes a reference writes the bytes before; whoever reads one checks them. A file appears whole or not at all.
"""

import os
import re
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from thalweg.learning.vectors.parameters import digest
from thalweg.sync.delta.durable import make_folder, sync_together

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_DIGEST: Final = re.compile("[0-9a-f]{64}")


class PayloadError(Exception):
    """The store does not have what was asked for, or has something else under its name."""


class PayloadStore:
    """A folder, or a place in an object store."""

    def __init__(self, place: str) -> None:
        """Name the place.

        Args:
            place: folder or URI.
        """
        self._place = place.rstrip("/")
        self._remote: tuple[FileSystem, str] | None = _opened(self._place) if "://" in place else None

    def put(self, payloads: Iterable[bytes]) -> None:
        """Write payloads; on return they stay.

        Raises:
            OSError: the store does not take them.
        """
        written = []
        for raw in payloads:
            name = digest(raw)
            if self._remote is not None:
                filesystem, root = self._remote
                with filesystem.open_output_stream(f"{root}/{name[:2]}/{name}") as stream:
                    stream.write(raw)
                continue
            path = self._path(name)
            if path.exists():
                continue
            make_folder(path.parent)
            draft = path.with_name(f".{name}.{uuid.uuid4().hex}.tmp")
            draft.write_bytes(raw)
            os.replace(draft, path)
            written.append(path)
        sync_together(written)

    def get(self, name: str) -> bytes:
        """Read a payload.

        Raises:
            PayloadError: it is not there, or is not what its name says.
            OSError: the store does not answer.
        """
        if not _DIGEST.fullmatch(name):
            raise PayloadError(f"{name!r} is no digest: 64 hexadecimal digits")
        try:
            raw = self._read(name)
        except FileNotFoundError:
            raise PayloadError(f"payload {name} is not in {self._place}") from None
        if digest(raw) != name:
            raise PayloadError(f"payload {name} in {self._place} holds something else")
        return raw

    def drop(self, names: Iterable[str]) -> None:
        """Delete payloads that nobody needs any more; one that is not there is no error."""
        for name in names:
            if self._remote is None:
                self._path(name).unlink(missing_ok=True)
                continue
            filesystem, root = self._remote
            try:
                filesystem.delete_file(f"{root}/{name[:2]}/{name}")
            except FileNotFoundError:
                continue

    def _read(self, name: str) -> bytes:
        if self._remote is None:
            return self._path(name).read_bytes()
        filesystem, root = self._remote
        with filesystem.open_input_stream(f"{root}/{name[:2]}/{name}") as stream:
            return bytes(stream.read())

    def _path(self, name: str) -> Path:
        return Path(self._place) / name[:2] / name


def _opened(uri: str) -> "tuple[FileSystem, str]":
    from pyarrow import fs  # late: a folder needs none

    filesystem, path = fs.FileSystem.from_uri(uri)
    return filesystem, str(path)
