"""The secrets of a region: read by name when a task starts, given to it, and said to nobody.

A folder with a file for each secret, as Kubernetes mounts them, or one file of NAME=VALUE lines. Messages name a
secret, never its value.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from thalweg.agent.runners import RunnerError

MAX_BYTES: Final = 1_048_576
"""As much as Kubernetes allows."""
_OPEN_TO_OTHERS: Final = stat.S_IRWXO | stat.S_IWGRP


@dataclass(frozen=True, slots=True)
class SecretStore:
    """Where a region keeps its secrets; nowhere, if no path is given."""

    path: Path | None = None

    def values(self, names: Iterable[str]) -> dict[str, str]:
        """Read secrets.

        Args:
            names: of variables, so that none of them leads out of the folder.

        Raises:
            RunnerError: one is missing, or others than the agent's user could read or change it.
        """
        wanted = list(dict.fromkeys(names))
        if not wanted:
            return {}
        if self.path is None:
            raise RunnerError(f"secret {wanted[0]!r} was not found: this region has no store (setting agent.secrets)")
        if self.path.is_dir():
            return {name: _text(self.path / name, f"secret {name!r}").removesuffix("\n") for name in wanted}
        known = dict(_lines(_text(self.path, "the region's file of secrets")))
        for name in wanted:
            if name not in known:
                raise RunnerError(f"secret {name!r} was not found in this region's store")
        return {name: known[name] for name in wanted}


def _text(path: Path, what: str) -> str:
    try:
        # Links are followed, for Kubernetes mounts secrets as links; what they lead to is looked at.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            seen = os.fstat(descriptor)
            if not stat.S_ISREG(seen.st_mode):
                raise RunnerError(f"{what} is no regular file in this region's store")
            if seen.st_mode & _OPEN_TO_OTHERS or seen.st_uid not in (0, os.geteuid()):
                raise RunnerError(
                    f"{what} is not used, because others could read or change it: mode {seen.st_mode & 0o777:04o}, "
                    f"owner {seen.st_uid}; allowed is 0640 or stricter, of the agent's user or root"
                )
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RunnerError(f"{what} was not found in this region's store") from None
    except OSError as error:
        raise RunnerError(f"{what} cannot be read: {error.strerror}") from None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise RunnerError(f"{what} is not UTF-8 text, as an environment variable must be") from None
    if len(content) > MAX_BYTES or "\0" in text:
        raise RunnerError(f"{what} is longer than {MAX_BYTES:,} bytes, or holds a NUL byte")
    return text


def _lines(text: str) -> Iterable[tuple[str, str]]:
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator and not name.lstrip().startswith("#"):
            yield name.strip(), value
