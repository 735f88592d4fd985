"""Fetch the locked JVM jars, once per user and lock, verified, complete or not at all."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final
from xml.sax.saxutils import quoteattr

from thalweg.bootstrap import ivy
from thalweg.bootstrap.exclusive import exclusive
from thalweg.bootstrap.progress import Counter, say
from thalweg.conf.environment import JAR_LOCK, JarSet, Java, LockedJar, SetupIncompleteError, jar_folder, locked_jars

_MEANING: Final = {
    JarSet.SPARK: "Delta, Kafka connector",
    JarSet.BROKER: "Kafka broker",
    JarSet.S3: "checkpoints on S3",
}


def ensure_jars(java: Java, environ: Mapping[str, str] = os.environ, lock: Path = JAR_LOCK) -> Path:
    """Return the folder of the jars, fetching them first if it is not there.

    Args:
        java: The runtime Ivy runs in.
        environ: Where the cache is and whose Ivy settings to use.
        lock: The jars.

    Raises:
        SetupIncompleteError: They cannot be fetched, or what came is not what was locked.
    """
    folder = jar_folder(environ, lock)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock_file = folder.parent / ".lock"
    lock_file.touch()
    with exclusive(lock_file, lambda: say("another process is fetching the jars; waiting for it")):
        if not folder.is_dir():
            _fetch(java, folder, environ, locked_jars(lock), lock.name)
    return folder


def _fetch(java: Java, folder: Path, environ: Mapping[str, str], jars: tuple[LockedJar, ...], lock_name: str) -> None:
    # A kill leaves only the partial folder; what is whole in it is kept by the next attempt.
    partial = folder.with_name(f".partial-{folder.name}")
    ivy_cache = partial / "ivy"
    ivy_cache.mkdir(parents=True, exist_ok=True)
    missing = [jar for jar in jars if file_sha256(partial / jar.jar_set / jar.file_name) != jar.sha256]
    if missing:
        what = ", ".join(_MEANING[jar_set] for jar_set in JarSet if any(jar.jar_set is jar_set for jar in missing))
        say(f"fetching {len(missing)} JVM jars ({what}) into {folder}")
        module = partial / "ivy.xml"
        module.write_text(module_file(missing), encoding="utf-8")
        pattern = str(partial / "[conf]" / "[artifact]-[revision].[ext]")
        counter = Counter("jars", len(missing))
        ivy.retrieve(java, module, pattern=pattern, cache=ivy_cache, poms=False, on_jar=counter.step, environ=environ)
    wrong = wrong_jars(partial, jars)
    if wrong:
        for jar, _ in wrong:
            (partial / jar.jar_set / jar.file_name).unlink(missing_ok=True)
        shutil.rmtree(ivy_cache)  # else the next attempt would be served the same bytes
        told = "; ".join(f"{jar.coordinate} should have SHA-256 {jar.sha256}, has {seen}" for jar, seen in wrong)
        raise SetupIncompleteError(
            f"Jars differ from conf/jars/{lock_name}: {told}.",
            "Nothing was installed. Run again; if it repeats, the Maven repository or a mirror serves altered files.",
        )
    shutil.rmtree(ivy_cache)
    (partial / "ivy.xml").unlink(missing_ok=True)
    partial.rename(folder)


def wrong_jars(folder: Path, jars: Iterable[LockedJar]) -> list[tuple[LockedJar, str]]:
    """Return each jar under ``folder`` that is not what the lock says, with the hash seen ("nothing" if absent)."""
    seen = [(jar, file_sha256(folder / jar.jar_set / jar.file_name)) for jar in jars]
    return [(jar, sha256 or "nothing") for jar, sha256 in seen if sha256 != jar.sha256]


def file_sha256(path: Path) -> str | None:
    """Return the file's hash in hexadecimal, or None if there is no such file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def module_file(jars: Iterable[LockedJar]) -> str:
    """Return an ivy.xml that names exactly these jars and follows none of their dependencies."""
    lines = ['<ivy-module version="2.0">', '<info organisation="thalweg" module="locked"/>']
    sets = "".join(f'<conf name="{jar_set}"/>' for jar_set in JarSet)
    lines += [f"<configurations>{sets}</configurations>", "<dependencies>"]
    for jar in jars:
        # Naming the artifact spares asking for the module file; some modules declare a type other than "jar".
        lines.append(
            f"<dependency org={quoteattr(jar.organisation)} name={quoteattr(jar.module)} rev={quoteattr(jar.revision)}"
            f' conf="{jar.jar_set}->*" transitive="false"><artifact name={quoteattr(jar.module)} type="jar"/>'
            "</dependency>"
        )
    return "\n".join([*lines, "</dependencies>", "</ivy-module>", ""])
