"""The state folder of a local stack: whose it is, what runs, where things listen; written so that a kill is harmless.

Layout: ``thalweg.json`` marks the folder and its format; ``lock`` is held by the running supervisor; ``stack.json``
says what runs; ``ports.json`` remembers ports; ``logs/``, ``broker/``, ``warehouse/``, ``checkpoints/``, ``agents/``
hold what they say; ``scratch/`` is the processes' temporary folder, cleared at start and end; ``demo/`` and
``chaos/`` are state folders of their own.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from thalweg.conf.environment import CHAOS, DEMO
from thalweg.processes import ports as own_ports
from thalweg.processes.disk import is_full
from thalweg.processes.identity import ProcessIdentity

FORMAT = 1
MARKER = "thalweg.json"
RESTORING = "restoring"
"""Holds what a restore has not put in place yet; it is there only while one runs, or was cut off."""
# What may lie in a folder without a marker: jobs and agents write there on their own, and a damaged marker is deleted.
OURS = frozenset(
    {"warehouse", "checkpoints", "logs", "broker", "agents", "scratch", DEMO, CHAOS, "lock", RESTORING}
    | {f"{name}{half_written}" for name in (MARKER, "stack.json", "ports.json") for half_written in ("", ".new")}
)


class StateFolderError(Exception):
    """The state folder cannot be used; the message says what was found there and what to do."""


class StateFolder:
    """A folder that is ours."""

    def __init__(self, path: Path, *, only_look: bool = False) -> None:
        """Open the folder, making and marking it if it is new.

        Args:
            path: Where it lies.
            only_look: Write nothing: who asks what runs leaves no trace, also where nothing is.

        Raises:
            StateFolderError: It is somebody else's, damaged, or of another version's format.
        """
        self.path = path
        self._is_ours = False
        with self.usable():
            if not only_look:
                path.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self.check(path)
            if not only_look and not (path / MARKER).exists():
                write_json(path / MARKER, {"what": "state folder of a local thalweg stack", "format": FORMAT})

    @contextlib.contextmanager
    def usable(self) -> Iterator[None]:
        """Around what is read and written in the folder before anything runs.

        Raises:
            StateFolderError: The disk did not let it.
        """
        try:
            yield
        except OSError as error:
            remedy = "Name another one in THALWEG_STATE"
            if is_full(error):
                remedy = f"Free space there, or {remedy[0].lower()}{remedy[1:]}"
            raise StateFolderError(
                f"State folder {self.path} cannot be used: {error.strerror or error}. {remedy}."
            ) from error

    @staticmethod
    def check(path: Path) -> None:
        """Look whether an existing folder is ours or could become ours, and write nothing.

        Raises:
            StateFolderError: It is not.
        """
        marker = path / MARKER
        if not marker.exists():
            if foreign := sorted(entry.name for entry in path.iterdir() if entry.name not in OURS):
                raise StateFolderError(
                    f"{path} is not a state folder of thalweg: it has no {MARKER} but holds"
                    f" {', '.join(foreign[:5])}. Name another folder in THALWEG_STATE, or move this one away."
                )
            return
        found = read_json(marker)
        if not isinstance(found, dict) or not isinstance(found.get("format"), int):
            raise StateFolderError(
                f"{marker} is damaged: it should say which format the folder has. If the folder is this stack's,"
                " delete that file and start again (tables and records are checked by their own readers);"
                " else move the folder away."
            )
        if found["format"] != FORMAT:
            raise StateFolderError(
                f"{path} has format {found['format']}; this version of thalweg reads format {FORMAT}."
                " Use the version that wrote it, or name another folder in THALWEG_STATE."
            )

    @staticmethod
    def check_whole(path: Path) -> None:
        """Look whether a restore into a folder was cut off.

        Raises:
            StateFolderError: It was: what is there is half of something.
        """
        restoring = path / RESTORING
        if restoring.is_dir() and any(restoring.iterdir()):
            raise StateFolderError(
                f"A restore into {path} was cut off, and no stack starts on half of one. Call it again, with the"
                " same folder: thalweg restore DIR"
            )

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be the only supervisor of this folder; the kernel lets go when this process ends, however it ends.

        Ports that are remembered meanwhile are kept from other processes, also while who listens there is away.

        Raises:
            StateFolderError: Another supervisor runs; the message names it.
        """
        with (self.path / "lock").open("a+b") as lock:
            # Whoever only looks whether the lock is held holds it for that moment himself.
            for _ in range(20):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.05)
            else:
                holder = self.supervisor()
                who = f"process {holder.pid}" if holder else "another process"
                raise StateFolderError(
                    f"A stack already runs in {self.path} ({who}). See it: thalweg ps. End it: thalweg down."
                )
            self._is_ours = True
            try:
                yield
            finally:
                self._is_ours = False
                own_ports.let_go(*self._ports().values())

    def is_held(self) -> bool:
        """Tell whether a supervisor runs in this folder now; nothing is written."""
        try:
            lock = (self.path / "lock").open("r+b")  # a file of another machine's is locked only by who may write it
        except FileNotFoundError:
            return False  # no supervisor has ever run here
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def write_stack(self, stack: Mapping[str, object]) -> None:
        """Record what runs."""
        write_json(self.path / "stack.json", stack)

    def stack(self) -> dict[str, Any]:
        """Return what was last recorded as running; empty if nothing was, or if the record is damaged."""
        found = read_json(self.path / "stack.json")
        return found if isinstance(found, dict) else {}

    def supervisor(self) -> ProcessIdentity | None:
        """Return the supervisor that wrote the record last, alive or not."""
        return identity_in(self.stack().get("supervisor"))

    def port(self, name: str) -> int | None:
        """Return the port this name had the last time."""
        return self._ports().get(name)

    def remember_ports(self, ports: Mapping[str, int]) -> None:
        """Remember ports by name, beside those known."""
        write_json(self.path / "ports.json", {**self._ports(), **ports})
        if self._is_ours:
            own_ports.keep(*ports.values())

    def _ports(self) -> dict[str, int]:
        """Read the ports remembered; a damaged file and what cannot be a port are as if nothing had been."""
        found = read_json(self.path / "ports.json")
        known = found.items() if isinstance(found, dict) else ()
        return {name: port for name, port in known if isinstance(port, int) and 0 < port < 65_536}


def running_in(path: Path) -> StateFolder | None:
    """Return the folder whose stack runs now: this state folder, else the demo's within it, else a chaos'."""
    for place in (path, path / DEMO, path / CHAOS):
        if (place / MARKER).exists() and (folder := StateFolder(place, only_look=True)).is_held():
            return folder
    return None


def identity_in(record: object) -> ProcessIdentity | None:
    """Return the process a record names, or None if it names none."""
    match record:
        case {"pid": int(pid), "started": str(started)}:
            return ProcessIdentity(pid=pid, started=started)
    return None


def write_json(file: Path, content: object) -> None:
    """Replace a file as a whole: a reader sees the old or the new, never half of it."""
    fresh = file.with_name(f"{file.name}.new")
    with fresh.open("w", encoding="utf-8") as handle:
        json.dump(content, handle, indent=1)
        handle.flush()
        os.fsync(handle.fileno())
    fresh.rename(file)


def read_json(file: Path) -> object:
    """Return a file's content, or None if it is missing or damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
