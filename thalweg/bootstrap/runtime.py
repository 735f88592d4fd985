"""What the plane needs beside Python packages, brought before it is started: Java and the JVM jars."""

import importlib.util

from thalweg.bootstrap.jars import ensure_jars
from thalweg.bootstrap.java import ensure_java


def has_plane() -> bool:
    """Tell whether more than the client is installed: Spark stands for the rest, which comes with it."""
    return importlib.util.find_spec("pyspark") is not None


def ensure_runtime() -> None:
    """Bring what is missing into the user's cache; nothing happens when it is there.

    Raises:
        ModuleNotFoundError: Only the client is installed.
        SetupIncompleteError: It cannot be brought; the message says why and what to do.
    """
    if not has_plane():
        raise ModuleNotFoundError("pyspark is not installed", name="pyspark")
    ensure_jars(ensure_java())
