"""Where the classes lie that our JVMs have read, checked and linked once, so that a start need not do it again.

A JVM maps such an archive (JEP 350, "Dynamic CDS Archives") instead of reading thousands of classes out of jars. It is
an archive of exactly one runtime and one class path; a JVM that finds anything else at that path goes on without it.
Making one is a rehearsal of what the stack does: thalweg/stack/rehearsal.py.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from thalweg.conf.environment import JarSet, Java, cache_folder, find_java, jar_paths

QUIETLY: Final = ("-Xshare:auto", "-Xlog:cds*=off", "-Xlog:class+path=off")
"""An archive that does not fit is no trouble: it is as if there were none."""

ARCHIVED: Final = (JarSet.BROKER, JarSet.SPARK)
"""Class paths of which there are archives: one of each JVM that we start."""

KEPT: Final = 3
"""Archives of each class path beside the one in use, the newest: of 50 to 200 MB each, for other environments."""


def archive_of(jar_set: JarSet, java: Java, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the archive of a class path lies, made or not.

    Raises:
        SetupIncompleteError: The jars were never fetched.
    """
    told = hashlib.sha256(f"{java.home} {java.version}".encode())
    for path in _class_path(jar_set, environ):
        seen = path.stat()
        told.update(f"{path} {seen.st_size} {seen.st_mtime_ns}\n".encode())
    return archives_folder(environ) / f"{jar_set}-{told.hexdigest()[:16]}.jsa"


def archives_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of all archives."""
    return cache_folder(environ) / "classes"


def archive_flags(
    jar_set: JarSet, java: Java | None = None, environ: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """Return what tells a JVM of its archive; nothing where none was made."""
    archive = archive_of(jar_set, java or find_java(environ), environ)
    return (f"-XX:SharedArchiveFile={archive}", *QUIETLY) if is_whole(archive) else ()


def is_whole(archive: Path) -> bool:
    """Tell whether an archive is there and as long as it was when it was made: a JVM that maps half of one ends."""
    try:
        return archive.stat().st_size == int(length_file(archive).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return False


def length_file(archive: Path) -> Path:
    """Return where it stands how long an archive is, written before the archive gets its name."""
    return archive.with_suffix(".bytes")


def with_options(options: Iterable[str], known: str | None) -> str:
    """Write options for SPARK_SUBMIT_OPTS behind those that are there; a path may hold blanks."""
    return " ".join(filter(None, (known, *(f'"{option}"' for option in options))))


def _class_path(jar_set: JarSet, environ: Mapping[str, str]) -> list[Path]:
    own = jar_paths(jar_set, environ)
    if jar_set is JarSet.BROKER:
        return own
    pyspark = find_spec("pyspark")
    brought = Path(pyspark.origin).parent / "jars" if pyspark is not None and pyspark.origin is not None else None
    return [*(sorted(brought.glob("*.jar")) if brought is not None else ()), *own]
