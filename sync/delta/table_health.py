"""Is a table on a local disk what its log says? Found by sizes and names, without reading rows.

Since every file is on the disk before an entry names it (`sync.delta.durable`), damage comes from elsewhere: an older
version, a restored backup, a disk. `deltalake` passes over an empty entry in silence, so somebody has to look.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deltalake import DeltaTable

from thalweg.sync.delta.log_entry import parse_entry
from thalweg.sync.delta.store import DamagedTableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A file that is not as it should be."""

    path: str
    seen: str


def damage_of(table_uri: str) -> Iterator[Damage]:
    """Look at the log since its last checkpoint, and at the files of the newest version; newest entry first."""
    if "://" in table_uri:
        return  # a store shows a file whole or not at all
    log = Path(table_uri) / "_delta_log"
    if not log.is_dir():
        return  # not made yet
    since = _checkpoint_version(log)
    broken = False
    for entry in sorted(log.glob("*.json"), reverse=True):
        if not entry.stem.isdigit() or int(entry.stem) <= since:
            continue
        try:
            parse_entry(str(entry), entry.read_bytes())
        except DamagedTableError as error:
            broken = True
            yield Damage(path=str(entry), seen=error.seen)
    if not broken:
        yield from _files_not_as_logged(table_uri)


def _files_not_as_logged(table_uri: str) -> Iterator[Damage]:
    files = DeltaTable(table_uri).get_add_actions()
    for path, size in zip(files.column("path").to_pylist(), files.column("size_bytes").to_pylist(), strict=True):
        file = Path(table_uri) / path
        try:
            found = file.stat().st_size
        except FileNotFoundError:
            yield Damage(path=str(file), seen="is missing")
            continue
        if found != size:
            yield Damage(path=str(file), seen=f"has {found} bytes, its log says {size}")


def _checkpoint_version(log: Path) -> int:
    try:
        return int(json.loads((log / "_last_checkpoint").read_bytes())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1  # none yet, or an unreadable one: then every entry is looked at
