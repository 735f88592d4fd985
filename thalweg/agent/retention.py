"""How long folders of runs stay on an agent's disk: bounded by age, number and bytes, the oldest goes first."""

import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger("thalweg.agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRun:
    """A run that has ended, on disk."""

    name: str
    ended_s: float
    """When something last happened in its folder, seconds since 1970, by the disk's clock."""
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRetention:
    """What is kept of runs that have ended."""

    seconds: float = 7 * 86_400.0
    runs: int = 10_000
    size_bytes: int = 10_000_000_000

    def to_forget(self, ended: Iterable[KeptRun], now_s: float) -> list[str]:
        """Name the runs that are not kept any more, oldest first."""
        newest_first = sorted(ended, key=lambda run: (run.ended_s, run.name), reverse=True)
        forgotten: list[str] = []
        kept_bytes = 0
        for number, run in enumerate(newest_first):
            kept_bytes += run.size_bytes
            if number >= self.runs or kept_bytes > self.size_bytes or now_s - run.ended_s > self.seconds:
                forgotten.append(run.name)
        return forgotten[::-1]


@dataclass(slots=True)
class RunFolders:
    """The folders of all runs of an agent."""

    top: Path
    _sizes: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Of each folder, when it was measured by its own time, and the result: ended runs do not change."""

    def sweep(
        self,
        retention: RunRetention,
        live: Callable[[], Collection[str]],
        stopped: Callable[[], bool] = lambda: False,
    ) -> list[str]:
        """Remove the folders of runs that are not kept any more, and name them.

        Args:
            retention: what is kept.
            live: names the folders that are in use; asked when all folders have been listed, so that one which came
                meanwhile is neither listed nor removed.
            stopped: asked before each folder; what is left then is left to the next sweep.
        """
        if not self.top.is_dir():
            return []
        entries = list(os.scandir(self.top))
        in_use = live()
        ended: list[KeptRun] = []
        for entry in entries:
            if stopped():
                return []
            if entry.name not in in_use:
                ended += self._measured(entry)
        forgotten: list[str] = []
        for name in retention.to_forget(ended, self._now_s()):
            if stopped():
                break
            self._remove(name)
            forgotten.append(name)
        known = {run.name for run in ended}.difference(forgotten)
        self._sizes = {name: size for name, size in self._sizes.items() if name in known}
        return forgotten

    def _measured(self, entry: "os.DirEntry[str]") -> list[KeptRun]:
        try:
            if not entry.is_dir(follow_symlinks=False):
                return []
            changed_s = entry.stat(follow_symlinks=False).st_mtime
        except OSError:
            return []  # removed meanwhile
        known = self._sizes.get(entry.name)
        if known is None or known[0] != changed_s:
            known = self._sizes[entry.name] = (changed_s, _size_bytes(Path(entry.path)))
        return [KeptRun(name=entry.name, ended_s=changed_s, size_bytes=known[1])]

    def _now_s(self) -> float:
        """Ask the disk's clock, which dated the folders too: it may be another machine's."""
        mark = self.top / ".now"
        mark.touch()
        return mark.stat().st_mtime

    def _remove(self, name: str) -> None:
        path = self.top / name
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            _open_up(path)
            shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            log.warning("a run's folder cannot be removed", extra={"fields": {"folder": str(path)}})


def _size_bytes(folder: Path) -> int:
    """Measure what a folder takes on disk."""
    total = 0
    for where, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.lstat(os.path.join(where, file)).st_blocks * 512
            except OSError:
                continue  # removed meanwhile
    return total


def _open_up(folder: Path) -> None:
    """Give oneself back the rights to folders that a task has closed."""
    folder.chmod(0o700)
    for where, folders, _ in os.walk(folder):
        for name in folders:
            path = Path(where, name)
            if not path.is_symlink():
                path.chmod(0o700)
