"""Look at what is installed: Python, its packages against the lock, Java, the jars, and whether they fit together."""

import importlib.metadata
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from thalweg.bootstrap.jars import wrong_jars
from thalweg.checkup.finding import Finding, fine, problem, warning
from thalweg.conf.environment import (
    FOREIGN_SPARK,
    IN_CLONE,
    MIN_PYTHON,
    PREPARE,
    REQUIREMENTS_LOCK,
    JarSet,
    SetupIncompleteError,
    find_java,
    jar_folder,
    java_candidates,
    locked_jars,
)

# A package changed by hand leaves the stamp as it was; without it the launcher looks at every package.
REINSTALL = "rm .venv/thalweg-stamp.json && ./run doctor" if IN_CLONE else "pip install --upgrade 'thalweg[plane]'"


def python_finding(version: tuple[int, int, int] = sys.version_info[:3]) -> Finding:
    """Judge the running Python."""
    seen = f"Python {'.'.join(map(str, version))} in {sys.prefix}"
    if version[:2] < MIN_PYTHON:
        wanted = ".".join(map(str, MIN_PYTHON))
        return problem("python", seen, f"Install Python {wanted} or newer, rm -r .venv, {PREPARE}")
    return fine("python", seen)


def no_plane_finding() -> Finding:
    """Say that what is not there is no fault."""
    return fine("plane", "not installed: client, replica, agent and reading alone (all: pip install 'thalweg[plane]')")


def package_finding(
    lock_text: str | None = None, installed: Mapping[str, str] | None = None, *, in_clone: bool = IN_CLONE
) -> Finding:
    """Compare the installed packages with the lock.

    Args:
        lock_text: Lines of ``name==version``; None reads the project's lock.
        installed: Version by name; None asks the running environment.
        in_clone: Whether ./run installed them, exactly. Elsewhere pip chose within what the package allows: what is
            missing then is nothing, and another version than the tested one is said and is no problem.
    """
    lock_text = REQUIREMENTS_LOCK.read_text(encoding="utf-8") if lock_text is None else lock_text
    if installed is None:
        installed = {_canonical(d.name): d.version for d in importlib.metadata.distributions() if d.name}
    # One lock for all platforms: an entry with a marker may be for another one, and a package may have several entries.
    locked: dict[str, list[str]] = {}
    everywhere = set()
    for name, version, marker in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(\s*;)?", lock_text, re.MULTILINE):
        locked.setdefault(_canonical(name), []).append(version)
        if not marker:
            everywhere.add(_canonical(name))
    differences = []
    for name, versions in locked.items():
        seen = installed.get(name)
        if seen is None and name in everywhere and in_clone:
            differences.append(f"{name} is missing (locked: {versions[0]})")
        elif seen is not None and seen not in versions:
            differences.append(f"{name} is {seen} (locked: {' or '.join(versions)})")
    if differences:
        more = f" and {len(differences) - 5} more" if len(differences) > 5 else ""
        told = "; ".join(differences[:5]) + more
        if in_clone:
            return problem("packages", told, REINSTALL)
        return warning("packages", told, f"Nothing, if all works; the tested versions are those of {REQUIREMENTS_LOCK}")
    return fine("packages", f"all {len(locked)} as locked" if in_clone else "as tested")


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def fit_finding(python_versions: Mapping[str, str] | None = None, jars: Mapping[str, str] | None = None) -> Finding:
    """Judge whether pyspark, delta-spark and the jars of Delta and the Kafka connector are of one making.

    They are three releases by two projects that work in one combination only, and fail with a NoSuchMethodError deep in
    a query when one was changed alone.

    Args:
        python_versions: Version by package; None asks the running environment.
        jars: Revision by module of the spark set; None reads the lock.
    """
    if python_versions is None:
        names = ("pyspark", "delta-spark", "deltalake")
        python_versions = {name: _version(name) or "missing" for name in names}
    if jars is None:
        jars = {jar.module: jar.revision for jar in locked_jars() if jar.jar_set is JarSet.SPARK}
    spark = python_versions["pyspark"]
    delta_module = f"delta-spark_{'.'.join(spark.split('.')[:2])}_2.13"
    connector = jars.get("spark-sql-kafka-0-10_2.13", "missing")
    delta = jars.get(delta_module, "missing")
    seen = (
        f"pyspark {spark}, connector {connector}; delta-spark {python_versions['delta-spark']},"
        f" jar {delta_module} {delta}; deltalake {python_versions['deltalake']}"
    )
    if connector != spark or delta != python_versions["delta-spark"] or "missing" in python_versions.values():
        return problem(
            "versions fit",
            seen,
            f"Pyspark and connector must be equal, delta-spark and its jar too: git checkout -- conf && {REINSTALL}",
        )
    return fine("versions fit", seen)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def java_finding(environ: Mapping[str, str] = os.environ) -> Finding:
    """Judge the Java that will be used."""
    try:
        java = find_java(environ)
    except SetupIncompleteError as error:
        return problem("java", error.seen, error.remedy)
    seen = f"Java {java.version} ({java.source}: {java.home})"
    older = [other for other in java_candidates(environ) if other.major < java.major and other.source != java.source]
    if older and older[0].source == "JAVA_HOME":
        return warning(
            "java",
            f"{seen}; JAVA_HOME names Java {older[0].version}: passed over here, but not by a plain spark-submit",
            f"export JAVA_HOME={java.home}",
        )
    return fine("java", seen)


def spark_finding(environ: Mapping[str, str] = os.environ, python: str = sys.executable) -> Finding:
    """Judge what the environment says of Spark: the jobs that we start use the Spark of the locked pyspark."""
    foreign = {name: environ[name] for name in FOREIGN_SPARK if environ.get(name)}
    for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        if environ.get(name) and Path(environ[name]).absolute() != Path(python).absolute():
            foreign[name] = environ[name]
    if not foreign:
        return fine("spark's environment", "names no other installation")
    told = ", ".join(f"{name}={value}" for name, value in foreign.items())
    return warning(
        "spark's environment",
        f"{told}: passed over by the jobs that thalweg starts, but not by a plain spark-submit",
        f"Before a spark-submit: unset {' '.join(foreign)}; export PYSPARK_PYTHON={python}",
    )


def jar_finding(environ: Mapping[str, str] = os.environ, folder: Path | None = None) -> Finding:
    """Compare every jar on disk with the lock's hash."""
    try:
        jars = locked_jars()
    except SetupIncompleteError as error:
        return problem("jars", error.seen, error.remedy)
    folder = folder or jar_folder(environ)
    if not folder.is_dir():
        return problem("jars", f"{folder} is not there: the jars were never fetched", PREPARE)
    wrong = wrong_jars(folder, jars)
    if wrong:
        words = {"nothing": "is missing"}
        told = "; ".join(f"{jar.file_name} {words.get(seen, 'has another hash')}" for jar, seen in wrong)
        return problem("jars", f"{told} in {folder}", f"rm -r {folder} && {PREPARE}")
    return fine("jars", f"all {len(jars)} in {folder} have the locked hashes")
