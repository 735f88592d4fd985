"""The package as one file that Python can import: what executors get, whose Python need not know it.

They need the packages that it calls (numpy, pyarrow, deltalake and others), which hold machine code and cannot travel
like this.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import thalweg

if TYPE_CHECKING:
    from pyspark import SparkContext

FILE_NAME: Final = "thalweg.zip"

_ROOMS: Final = ("conf", "jobs", "scheduling", "streams", "sync")
"""All that a job may import: the layers up to its own, and the settings beside them."""
_MODULE: Final = ".py"
_DATA: Final = frozenset({".conf", ".lock", ".properties", ".xml", ".yaml"})
_MADE: Final = (1980, 1, 1, 0, 0, 0)  # the same code makes the same file, byte for byte


def write_package(out: Path) -> Path:
    """Write what a job consists of, with its data, as a zip for `spark-submit --py-files`; return its path.

    Raises:
        OSError: the file cannot be written.
        NotADirectoryError: this code itself comes from such a file.
    """
    if not (root := Path(thalweg.__path__[0])).is_dir():
        raise NotADirectoryError(f"{root} lies in a file that was made like this: copy that one")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(_files(root)):
            packed.writestr(zipfile.ZipInfo(f"thalweg/{file.relative_to(root)}", _MADE), file.read_bytes())
    return out


def give_to_executors(context: "SparkContext", folder: Path) -> None:
    """Let every Python that this application starts on another machine find the code that runs here, and no other.

    Nothing to do where the master is this process, or Spark brought this code with `--py-files`: it goes to executors.

    Args:
        context: of the application.
        folder: for the file; must stay until the application ends, since executors fetch it when they start.
    """
    here = re.match(r"local(\[|$)", context.master or "") is not None
    if not here and Path(thalweg.__path__[0]).is_dir():
        context.addPyFile(str(write_package(folder / FILE_NAME)))


def _files(root: Path) -> Iterator[Path]:
    yield root / "__init__.py"
    for room in _ROOMS:
        for file in (root / room).rglob("*"):
            if file.suffix == _MODULE or (room == "conf" and file.suffix in _DATA):
                yield file
