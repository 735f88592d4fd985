"""Open a file that somebody else may have put there: no link is followed, no pipe waited for."""

import os
import stat
from pathlib import Path
from typing import BinaryIO


class NoRegularFileError(Exception):
    """What lies there is no file to read; the message says what it is."""


def open_regular(path: Path) -> BinaryIO | None:
    """Open a file for reading; None if there is none.

    Raises:
        NoRegularFileError: it is a link, a pipe or the like, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise NoRegularFileError(f"it cannot be read, or is a link, which is not followed ({error.strerror})") from None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    raise NoRegularFileError("it is no regular file")
