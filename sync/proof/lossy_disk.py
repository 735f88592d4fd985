"""A disk that forgets, at a loss of power, what was not synced: the worst that a file system may do.

It watches the calls that matter, and after each of them can build the folder as it may be found afterwards: content
that was not synced is gone, and names that were not synced are there or not, whichever is worse.
"""

import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_WATCHED: Final = ("fsync", "link")


class LossyDisk:
    """Watches one folder; `after_each` is called after every call that changes what a crash would leave."""

    def __init__(self, folder: Path, after_each: Callable[["LossyDisk"], None] = lambda _: None) -> None:
        """Watch nothing yet."""
        self._folder = folder
        self._after_each = after_each
        self._content: dict[int, bytes] = {}  # by inode: what is on the disk
        self._names: dict[Path, dict[str, int]] = {}  # by folder: names on the disk
        self._quiet = False
        self._one_at_a_time = threading.RLock()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch what this process does, all of its threads."""
        real = {name: getattr(os, name) for name in _WATCHED}

        def watch(name: str) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                with self._one_at_a_time:
                    result = real[name](*arguments, **named)
                    if not self._quiet:
                        if name == "fsync":
                            self._synced(arguments[0])
                        self._quiet = True
                        try:
                            self._after_each(self)
                        finally:
                            self._quiet = False
                    return result

            return call

        for name in _WATCHED:
            setattr(os, name, watch(name))
        try:
            yield
        finally:
            for name, call in real.items():
                setattr(os, name, call)

    def everything_is_on_the_disk(self) -> None:
        """Take what is there for synced."""
        for path in (self._folder, *self._folder.rglob("*")):
            self._keep(path)

    def _synced(self, handle: int) -> None:
        self._keep(Path(os.readlink(f"/proc/self/fd/{handle}")))

    def _keep(self, path: Path) -> None:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            self._names[path] = {entry.name: entry.stat().st_ino for entry in path.iterdir()}
        else:
            self._content[found.st_ino] = path.read_bytes()

    def after_power_loss(self, target: Path, *, names_survive: bool) -> Path:
        """Build the folder as it may be found.

        Args:
            target: where; emptied before.
            names_survive: names are there although they were not synced; otherwise as they were when they last were.
        """
        shutil.rmtree(target, ignore_errors=True)
        self._build(self._folder, target, names_survive)
        return target

    def lose_power(self, *, names_survive: bool) -> None:
        """Leave of the folder what is found after a loss of power, as `after_power_loss` builds it."""
        found = self.after_power_loss(self._folder.with_name(f"{self._folder.name}.found"), names_survive=names_survive)
        shutil.rmtree(self._folder)
        found.rename(self._folder)
        self._content.clear()
        self._names.clear()
        self.everything_is_on_the_disk()

    def _build(self, source: Path, target: Path, names_survive: bool) -> None:
        target.mkdir()
        synced = self._names.get(source, {})
        present = {entry.name: entry.stat().st_ino for entry in source.iterdir()} if source.is_dir() else {}
        for name, inode in (present if names_survive else synced).items():
            path = source / name
            if path.is_dir():
                self._build(path, target / name, names_survive)
            else:
                (target / name).write_bytes(self._content.get(inode, b""))
