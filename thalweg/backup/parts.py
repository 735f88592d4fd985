"""Copy one part of a stack: a query's checkpoint, a table, an agent's file, the broker's records.

Each is copied as some moment had it, though it is written meanwhile: what is copied is what a machine would find that
lost its power then, or what a version names.
"""

import errno
import json
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from deltalake import DeltaTable

from thalweg.backup.copying import Copier
from thalweg.backup.manifest import BackupError
from thalweg.streams.broker.errors import FenceError, StoreFullError
from thalweg.streams.placement.fence import open_to_read

TRIES: Final = 5
"""Housekeeping takes files away once in minutes; five copies in a row do not all meet it."""
_ENTRY: Final = re.compile(r"(\d{20})\.json")
_CHECKPOINT: Final = re.compile(r"(\d{20})\.checkpoint(?:\.\d{10}\.\d{10})?\.parquet")
_LAST_CHECKPOINT: Final = "_last_checkpoint"
_OF_A_SEGMENT: Final = re.compile(r"\d{20}(\.log|-\d{10}\.checkpoint)")
_OF_A_PARTITION: Final = frozenset({"leader-epoch-checkpoint", "partition.metadata", "quorum-state"})
_OF_A_BROKER: Final = frozenset({"meta.properties", "bootstrap.checkpoint"})
METADATA: Final = "__cluster_metadata-0"


def copy_checkpoint(copier: Copier, source: Path, name: str) -> int | None:
    """Copy a query's checkpoint and return its newest planned batch.

    What says that batches ended goes first, so that no batch of the copy ended that was not planned; of those that were
    planned meanwhile only the next is kept, which is what Spark expects.
    """
    ended = _numbers(source / "commits")
    planned = sorted(number for number in _numbers(source / "offsets") if number <= max(ended, default=-1) + 1)
    for part, numbers in (("commits", ended), ("offsets", planned)):
        for number in numbers:
            _copy_if_there(copier, source / part / str(number), f"{name}/{part}/{number}")
    for file in sorted(source.rglob("*")):
        within = file.relative_to(source)
        hidden = any(part.startswith(".") for part in within.parts)
        if file.is_file() and not hidden and within.parts[0] not in ("commits", "offsets") and file.suffix != ".new":
            _copy_if_there(copier, file, f"{name}/{within}")
    return planned[-1] if planned else None


def _numbers(folder: Path) -> list[int]:
    return sorted(int(file.name) for file in folder.iterdir() if file.name.isdigit()) if folder.is_dir() else []


def _copy_if_there(copier: Copier, source: Path, name: str) -> None:
    with suppress(FileNotFoundError):  # an old batch's, which Spark has just let go
        copier.copy(source, name)


def copy_table(copier: Copier, source: Path, name: str) -> DeltaTable:
    """Copy a table as its newest version names it, and return that.

    Raises:
        BackupError: it changes faster than it can be copied.
    """
    for _ in range(TRIES):
        try:
            return _copy_version(copier, source, name)
        except FileNotFoundError:
            copier.forget(name)  # merged away, or the log was shortened
    raise BackupError(f"table {source.name}: its files were taken away {TRIES} times while they were copied. Try again")


def _copy_version(copier: Copier, source: Path, name: str) -> DeltaTable:
    table = DeltaTable(str(source))
    version, log = table.version(), source / "_delta_log"
    names = [entry.name for entry in log.iterdir()]
    checkpoints = [int(found[1]) for each in names if (found := _CHECKPOINT.fullmatch(each))]
    base = max((one for one in checkpoints if one <= version), default=-1)
    needed = [each for each in names if (found := _CHECKPOINT.fullmatch(each)) and int(found[1]) == base]
    needed += [f"{number:020d}.json" for number in range(base + 1, version + 1)]
    if base >= 0 and f"{base:020d}.json" in names:
        needed.append(f"{base:020d}.json")  # what readers of changes begin with
    for each in needed:
        copier.copy(log / each, f"{name}/_delta_log/{each}")
    try:
        said = (log / _LAST_CHECKPOINT).read_bytes()
        if base >= 0 and json.loads(said)["version"] == base:
            copier.write(f"{name}/_delta_log/{_LAST_CHECKPOINT}", said)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # it saves a listing, and nothing else
    for path in table.get_add_actions().column("path").to_pylist():
        copier.copy(source / unquote(path), f"{name}/{unquote(path)}")
    return table


def copy_agent(copier: Copier, source: Path, name: str) -> None:
    """Copy an agent's file as its last commit left it: SQLite reads it in one transaction, whoever writes beside.

    Raises:
        BackupError: the file is damaged.
        OSError: the disk does not take it.
    """
    target = copier.target / name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(open_to_read(source)) as reader, closing(sqlite3.connect(target)) as writer:
            with reader.in_words():
                reader.backup(writer)
            reader.check_pages()
    except FenceError as error:
        raise BackupError(f"{error} A copy would be of no use: make the backup again then") from error
    except StoreFullError as error:
        raise OSError(errno.EIO, str(error), str(target)) from error
    copier.add(name)


def copy_records(copier: Copier, source: Path, name: str) -> None:
    """Copy a broker's records as a machine would find them that lost its power.

    Its own books (indexes, how far it had flushed) are left out: it makes them anew from the records, and cuts off what
    was written half. The metadata go first: a topic made meanwhile is missing whole.

    Raises:
        BackupError: it rewrites its records faster than they can be copied.
    """
    partitions = sorted(
        (each for each in source.iterdir() if each.is_dir() and not each.name.endswith(("-delete", "-stray"))),
        key=lambda each: (each.name != METADATA, each.name),
    )
    for partition in partitions:
        _copy_partition(copier, partition, f"{name}/{partition.name}")
    for file in sorted(source.iterdir()):
        if file.name in _OF_A_BROKER:
            copier.copy(file, f"{name}/{file.name}")


def _copy_partition(copier: Copier, source: Path, name: str) -> None:
    for _ in range(TRIES):
        before = _segments(source)
        try:
            for each in before:
                copier.copy(source / each, f"{name}/{each}")
        except FileNotFoundError:
            copier.forget(name)
            if not source.is_dir():
                return  # the topic was deleted meanwhile
            continue
        if set(before) <= set(_segments(source)):
            return
        copier.forget(name)  # compacted, or the oldest segment expired
    raise BackupError(f"the broker's {source.name}: rewritten {TRIES} times while it was copied. Try again")


def _segments(source: Path) -> list[str]:
    try:
        names: Iterable[str] = [file.name for file in source.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name in _OF_A_PARTITION or _OF_A_SEGMENT.fullmatch(name))
