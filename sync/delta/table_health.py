"""Is a table on a local disk what its log says? Found by sizes and names, without reading rows.

Since every file is on the disk before an entry names it (`sync.delta.durable`), damage comes from elsewhere: an older
version, a restored backup, a disk. `deltalake` passes over an empty entry in silence, so somebody has to look.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deltalake import DeltaTable

from thalweg.sync.delta.log_entry import parse_entry
from thalweg.sync.delta.store import DamagedTableError

_ENTRY: Final = re.compile(r"(\d{20})\.json")
_CHECKPOINT: Final = re.compile(r"(\d{20})\.checkpoint(?:\..+)?\.parquet")


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
    if not log.is_dir() or not any(
        _ENTRY.fullmatch(one.name) or _CHECKPOINT.fullmatch(one.name) for one in log.iterdir()
    ):
        return  # not made yet, or no further than its folder: the disk was full
    if gap := log_gap(log):
        yield gap
        return  # nothing behind it can be read
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


def log_gap(log: Path) -> Damage | None:
    """Look for versions that no entry and no checkpoint stands for; None where the log goes on without a gap."""
    names = [entry.name for entry in log.iterdir()]
    entries = {int(found[1]) for name in names if (found := _ENTRY.fullmatch(name))}
    checkpoints = {int(found[1]) for name in names if (found := _CHECKPOINT.fullmatch(name))}
    base = max(checkpoints, default=-1)
    missing = sorted(set(range(base + 1, max(entries, default=base) + 1)) - entries)
    if not missing:
        return None
    # Of several gaps the first: what lies behind it cannot be read in any case.
    first = missing[0]
    last = next(version for version in range(first, first + len(missing) + 1) if version + 1 not in missing)
    which = f"version {first} is" if last == first else f"versions {first} to {last} are"
    return Damage(path=str(log), seen=f"has a gap: {which} missing, and no checkpoint stands for what they held")


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
