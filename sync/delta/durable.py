"""What was written stays after a loss of power: files and folders are handed to the disk before anybody builds on them.

A file system may keep a name without its content, or lose both, until they are synced. So a data file is synced before
the log entry that names it, an entry before its name, the name before the commit counts. An object store does this by
itself. It costs 0.4 ms a file on the idle disk it was measured on, and 0.04 ms where there is nothing to do.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

_together: Final = ThreadPoolExecutor(4, thread_name_prefix="sync")


def sync_file(path: str | Path) -> None:
    """Wait until a file's content is on the disk.

    Raises:
        FileNotFoundError: it is not there.
    """
    _sync(path, os.O_RDONLY)


def sync_folder(path: str | Path) -> None:
    """Wait until a folder's names are on the disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def sync_together(files: Iterable[str | Path]) -> None:
    """Wait until files and their names are on the disk, all at once: a file system writes them in one go.

    Raises:
        FileNotFoundError: one is not there.
    """
    paths = [Path(file) for file in files]
    tasks = [_together.submit(sync_file, path) for path in paths]
    tasks += [_together.submit(sync_folder, folder) for folder in {path.parent for path in paths}]
    for task in tasks:
        task.result()


def make_folder(path: Path) -> None:
    """Make a folder, and its parents, that stay."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def sync_log(table: Path) -> None:
    """Wait until what `deltalake` wrote last to a table's log is on the disk: newest entry, checkpoint, their names."""
    log = table / "_delta_log"
    for pattern in ("*.json", "*.checkpoint*.parquet", "_last_checkpoint"):
        for newest in sorted(log.glob(pattern))[-1:]:
            sync_file(newest)
    sync_folder(log)
    sync_folder(table)


def _sync(path: str | Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
