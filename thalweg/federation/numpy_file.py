"""A file of numpy's that a person has named: its arrays, or words for what is wrong with it."""

import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_DAMAGED: Final = (OSError, EOFError, ValueError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)
"""What numpy and zipfile raise at a file that is empty, cut off, of something else, or of pickled objects."""


class NumpyFileError(ValueError):
    """The file has not the arrays that are wanted; the text names it."""


def read_arrays(file: Path, *names: str) -> tuple[NDArray[Any], ...]:
    """Read arrays of a .npz file by their names.

    Raises:
        NumpyFileError: it is no such file, or lacks one of them.
    """
    wanted = f"wanted is a .npz file with {' and '.join(f'`{name}`' for name in names)}"
    try:
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            raise NumpyFileError(f"{file}: one array without a name; {wanted}")
        with found:
            missing = [name for name in names if name not in found]
            if missing:
                raise NumpyFileError(f"{file}: it has no {' and no '.join(missing)}; {wanted}")
            return tuple(np.asarray(found[name]) for name in names)
    except NumpyFileError:
        raise
    except _DAMAGED as error:
        raise NumpyFileError(f"{file}: {_why(file, error)}; {wanted}") from error


def map_all_arrays(file: Path, scratch: Path) -> dict[str, NDArray[Any]]:
    """Unpack every array of a .npz file, and map it: it is read from the disk where it is looked at.

    Args:
        file: to read.
        scratch: a folder of the caller's, who deletes it when the arrays are not needed any more.

    Raises:
        NumpyFileError: it is no such file.
    """
    wanted = "wanted is a .npz file of arrays of numbers or text"
    try:
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            raise NumpyFileError(f"{file}: one array without a name; {wanted}")
        with found:
            return {name: _mapped(found, name, scratch / f"array-{at}.npy") for at, name in enumerate(found.files)}
    except NumpyFileError:
        raise
    except _DAMAGED as error:
        raise NumpyFileError(f"{file}: {_why(file, error)}; {wanted}") from error


def _mapped(found: Any, name: str, place: Path) -> NDArray[Any]:
    stored = found.zip.namelist()
    with found.zip.open(name if name in stored else f"{name}.npy") as source, place.open("wb") as target:
        shutil.copyfileobj(source, target)
    return np.asarray(np.load(place, mmap_mode="r", allow_pickle=False))


def read_array(file: Path) -> NDArray[Any]:
    """Read the one array of a .npy file.

    Raises:
        NumpyFileError: it is no such file.
    """
    wanted = "wanted is a .npy file"
    try:
        found = np.load(file, allow_pickle=False)
    except _DAMAGED as error:
        raise NumpyFileError(f"{file}: {_why(file, error)}; {wanted}") from error
    if not isinstance(found, np.ndarray):
        found.close()
        raise NumpyFileError(f"{file}: arrays with names; {wanted}")
    return found


def _why(file: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "an empty file" if file.is_file() and not file.stat().st_size else f"it cannot be read ({error})"
