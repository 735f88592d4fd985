"""The last version that served well, on the region's own disk: what serves when the store and the broker are away.

The bytes lie under their digest, and a file beside them says which of them it was; it is replaced at once, after the
bytes are on the disk. So whatever moment a machine stops at, the folder holds one whole version, the old or the new.
"""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from thalweg.learning.vectors.parameters import digest
from thalweg.serving.version_record import ModelVersion
from thalweg.sync.delta.durable import make_folder, sync_file, sync_folder

_RECORD: Final = "kept.json"
_LOCK: Final = ".lock"


class KeptModel:
    """Of one model. Servers of the same region may share a folder."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made when something is kept."""
        self._folder = folder

    def keep(self, version: ModelVersion, raw: bytes) -> None:
        """Keep a version, and let those before it go; on return it stays.

        Raises:
            OSError: the disk does not take it; what was kept before still is.
        """
        make_folder(self._folder)
        with self._alone():
            self._write(version.sha256, raw)
            self._write(_RECORD, msgspec.json.encode(version))
            for path in self._folder.iterdir():
                if path.name not in (version.sha256, _RECORD, _LOCK):
                    path.unlink(missing_ok=True)

    def newest(self) -> tuple[ModelVersion, bytes] | None:
        """Return what was kept, with its bytes; None where nothing is, or what is there is not what it says."""
        try:
            with self._alone():
                version = msgspec.json.decode((self._folder / _RECORD).read_bytes(), type=ModelVersion)
                raw = (self._folder / version.sha256).read_bytes()
        except (OSError, msgspec.DecodeError):
            return None
        return (version, raw) if digest(raw) == version.sha256 else None

    def _write(self, name: str, raw: bytes) -> None:
        path = self._folder / name
        draft = self._folder / f".{uuid.uuid4().hex}.draft"
        try:
            draft.write_bytes(raw)
            sync_file(draft)
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(self._folder)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep another server of the same model and region out."""
        with (self._folder / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
