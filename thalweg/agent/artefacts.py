"""Where logs and artefacts of runs are kept and offered: on the agent's own disk, or in a store that others reach too.

`file://HOST/path` is on the disk of that host, `file:///path` wherever the path is mounted, everything else (`s3://…`)
an object store, which needs pyarrow. What is put is there as a whole or not at all.
"""

import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from thalweg.agent.regular_files import NoRegularFileError, open_regular
from thalweg.conf.words import cut_short

CHUNK_BYTES: Final = 1_048_576


class ArtefactError(Exception):
    """Something cannot be kept or read; the message says what to do."""


class Artefacts(Protocol):
    """Keeps the files of runs."""

    @property
    def copies(self) -> bool:
        """Whether files must be put there to be kept."""

    def uri(self, run: str, name: str) -> str:
        """Name where a file of a run is found."""

    def put(self, source: BinaryIO, run: str, name: str) -> None:
        """Keep a file of a run, instead of the one of this name that was kept before.

        Raises:
            ArtefactError: it cannot be kept.
        """


@dataclass(frozen=True, slots=True)
class OwnDisk:
    """The folder in which the runs themselves lie."""

    folder: Path
    copies: bool = False

    def uri(self, run: str, name: str) -> str:
        """Name the file and the host whose disk it is on."""
        return f"file://{quote(socket.gethostname())}{quote(str(self.folder / run / name))}"

    def put(self, source: BinaryIO, run: str, name: str) -> None:
        """It is there already."""


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """A folder that is mounted where results are read, under the same path."""

    folder: Path
    copies: bool = True

    def uri(self, run: str, name: str) -> str:
        """Name the file."""
        return f"file://{quote(str(self.folder / run / name))}"

    def put(self, source: BinaryIO, run: str, name: str) -> None:
        """Write it beside its place, then put it there."""
        place = self.folder / run / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            beside = place.with_name(f".{place.name[:200]}.{os.getpid()}")
            with beside.open("wb") as file:
                shutil.copyfileobj(source, file, CHUNK_BYTES)
            beside.replace(place)
        except OSError as error:
            raise ArtefactError(f"{self.uri(run, name)} cannot be written: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A prefix in an object store. Credentials come from the environment, as its own tools take them."""

    base: str
    copies: bool = True

    def uri(self, run: str, name: str) -> str:
        """Name the object; what the setting says behind `?` (an endpoint) belongs to it."""
        parts = urlsplit(self.base)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(run)}/{quote(name)}"))

    def put(self, source: BinaryIO, run: str, name: str) -> None:
        """Write the object, which appears when it is whole."""
        uri = self.uri(run, name)
        filesystem, path = _filesystem(uri)
        try:
            with filesystem.open_output_stream(path) as file:
                shutil.copyfileobj(source, file, CHUNK_BYTES)
        except OSError as error:
            raise ArtefactError(f"{uri} cannot be written: {_first_line(error)}") from None


def artefacts_at(uri: str | None, own_folder: Path) -> Artefacts:
    """Choose where to keep what runs leave.

    Args:
        uri: the setting `agent.artefacts`; None keeps it on the agent's disk.
        own_folder: in which the runs lie.

    Raises:
        ArtefactError: the URI is not allowed.
    """
    if uri is None:
        return OwnDisk(own_folder)
    parts = urlsplit(uri)
    if "@" in parts.netloc:
        raise ArtefactError(
            "agent.artefacts holds credentials, and would be told to everybody: give them by the environment, as the "
            "store's own tools take them (AWS_ACCESS_KEY_ID, …)"
        )
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return SharedFolder(Path(unquote(parts.path)))
    if parts.scheme in ("", "file") or not parts.netloc:
        raise ArtefactError(f"agent.artefacts {uri!r}: allowed is file:///FOLDER, s3://BUCKET/PREFIX or the like")
    _filesystem(uri)
    return ObjectStore(uri)


def read_artefact(uri: str) -> bytes | None:
    """Read what is kept under a URI; None if there is nothing (yet).

    Raises:
        ArtefactError: it cannot be read from here.
    """
    parts = urlsplit(uri)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        if unquote(parts.netloc) not in ("", "localhost", socket.gethostname()):
            raise ArtefactError(f"on the disk of {unquote(parts.netloc)} at {path}, which cannot be read from here")
        return _read(path)
    filesystem, path_there = _filesystem(uri)
    try:
        with filesystem.open_input_stream(path_there) as file:
            return bytes(file.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtefactError(f"at {uri}, which cannot be read: {_first_line(error)}") from None


def _read(path: Path) -> bytes | None:
    try:
        file = open_regular(path)  # the task may have put something else there than its log
        if file is None:
            return None
        with file:
            return file.read()
    except (NoRegularFileError, OSError) as error:
        raise ArtefactError(f"at {path}, which cannot be read: {error}") from None


def _filesystem(uri: str) -> tuple[Any, str]:
    """Open an object store, and name the path in it."""
    try:
        from pyarrow import fs  # late: neither a client nor an agent needs it else
    except ModuleNotFoundError:
        raise ArtefactError(f"{urlsplit(uri).scheme}:// needs pyarrow: pip install pyarrow") from None
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{uri} cannot be used: {_first_line(error)}") from None
    return filesystem, path


def _first_line(error: BaseException) -> str:
    return cut_short((str(error).splitlines() or [type(error).__name__])[0])
