"""Java and the JVM jars, brought before the first thing that needs them; nothing happens when they are there."""

from thalweg.bootstrap.jars import ensure_jars
from thalweg.bootstrap.java import ensure_java


def ensure_runtime() -> None:
    """Bring what is missing into the user's cache.

    Raises:
        SetupIncompleteError: It cannot be brought; the message says why and what to do.
    """
    ensure_jars(ensure_java())
