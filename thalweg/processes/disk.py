"""How much room is left on a disk, and when it counts as full."""

import errno
import shutil
from pathlib import Path
from typing import Final

FULL_BYTES: Final = 32_000_000
"""With less than this nothing of ours does its work: a broker's first indexes are 10 MB each, and who fails for want of
room removes what it had half written, so that the disk of a stack that cannot go on is seldom full to the last byte."""


def free_bytes(path: Path) -> int:
    """Return the free space where ``path`` lies or will lie."""
    return shutil.disk_usage(existing(path)).free


def existing(path: Path) -> Path:
    """Return the path itself, or the nearest folder above that is there."""
    while not path.exists():
        path = path.parent
    return path


def free_words(path: Path, free: int) -> str:
    """Say how much is free, and where."""
    amount = f"{free / 1e9:.1f} GB" if free >= 1e9 else f"{free / 1e6:.0f} MB"
    return f"{amount} free at {existing(path)}"


def full_words(path: Path) -> str:
    """Say that the disk of ``path`` is full; "" where it is not, or cannot be asked."""
    try:
        free = free_bytes(path)
        return f"the disk is full: {free_words(path, free)}" if free < FULL_BYTES else ""
    except OSError:
        return ""


def is_full(error: OSError) -> bool:
    """Tell whether what failed did so for want of room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
