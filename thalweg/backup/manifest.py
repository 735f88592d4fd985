"""What a backup says of itself: of what it is a copy, when, and the size and hash of every file.

It is written last. A copy that was cut off has none, and one whose manifest, files or names differ is not believed.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

MANIFEST: Final = "backup.json"
FORMAT: Final = 1


class BackupError(Exception):
    """A backup cannot be made, or is not one; the message says what was seen and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMark:
    """One file of a backup."""

    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup is a copy of. None where the stack had no such part."""

    made_ms: int
    """When the copying began, by the wall clock."""
    seconds: float
    """How long it took."""
    thalweg: str
    """Version that made it."""
    packages: Mapping[str, str]
    """Versions of those that write what was copied."""
    cluster_id: str | None
    """Of the broker."""
    has_records: bool
    """Whether the broker's records are in the backup, too."""
    warehouse_id: str | None
    """Of the ledger's table, which Delta gives it when it is made."""
    ledger_version: int | None
    driver_epoch: int | None
    """Of the driver whose rows are the ledger's last: the life that was copied."""
    tables: Mapping[str, int]
    """Version of each table that was copied."""
    checkpoints: Mapping[str, int | None]
    """Newest planned batch of each query's checkpoint; None before its first."""
    agents: tuple[str, ...]
    """Folders of agents of this machine."""
    files: Mapping[str, FileMark]
    """Every file, by its path within the backup."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    def as_document(self) -> dict[str, Any]:
        """Write it as JSON has it."""
        return {"format": FORMAT, **asdict(self), "agents": list(self.agents)}


def digest_of(document: Mapping[str, Any]) -> str:
    """Hash a manifest's document, however it was laid out."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def manifest_text(manifest: Manifest) -> str:
    """Lay out a manifest with its own hash."""
    document = manifest.as_document()
    return json.dumps({"manifest": document, "sha256": digest_of(document)}, indent=1, sort_keys=True)


def read_manifest(folder: Path) -> Manifest:
    """Read a backup's manifest.

    Raises:
        BackupError: there is none, it is damaged, or another version's.
    """
    file = folder / MANIFEST
    again = "Name the folder of a whole backup, or make one anew: thalweg backup DIR"
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        document = told["manifest"]
        sha256 = told["sha256"]
    except FileNotFoundError:
        raise BackupError(
            f"{folder} is no backup, or one that was cut off while it was made: it has no {MANIFEST}, which is written "
            f"last. {again}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{file} cannot be read ({error}): the backup is not believed. {again}") from error
    if not isinstance(document, dict) or digest_of(document) != sha256:
        raise BackupError(f"{file} is not what was written: its own hash differs. The backup is not believed. {again}")
    if (found := document.pop("format", None)) != FORMAT:
        raise BackupError(f"{file} has format {found}; this version of thalweg reads {FORMAT}")
    files = {path: FileMark(**mark) for path, mark in document.pop("files").items()}
    return Manifest(**{**document, "agents": tuple(document["agents"])}, files=files)
