"""Make the locks of conf/jars anew from its module files: ``.venv/bin/python -m thalweg.bootstrap.relock_jars``.

Resolves each with the repository's full metadata, leaves out of Spark's sets what pyspark ships itself, and
writes coordinates with the hashes of what came. Read the difference before committing it.
"""

import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from thalweg.bootstrap import ivy
from thalweg.bootstrap.jars import file_sha256
from thalweg.bootstrap.progress import say
from thalweg.conf.environment import JAR_LOCK, S3_JAR_LOCK, JarSet, LockedJar, find_java

HEADER = """\
# The JVM jars, exactly. Made from conf/jars/{module} by: .venv/bin/python -m thalweg.bootstrap.relock_jars
{meaning}"""
MODULES: Final = {
    JAR_LOCK: (
        "ivy.xml",
        "# spark: what Delta and the Kafka connector need beside the jars that pyspark ships. "
        "broker: a whole class path.\n",
    ),
    S3_JAR_LOCK: ("s3.xml", "# s3: what checkpoints on S3 need beside those, and what pyspark ships.\n"),
}
"""What each lock is made from, and holds."""


def main() -> int:
    """Resolve, filter, write; return the exit code."""
    for lock in MODULES:
        _relock(lock)
    return 0


def _relock(lock: Path) -> None:
    module, _ = MODULES[lock]
    with tempfile.TemporaryDirectory(prefix="thalweg-relock-") as scratch:
        folder = Path(scratch)
        pattern = str(folder / "out" / "[conf]" / "[organisation]" / "[module]" / "[revision]" / "[artifact].[ext]")
        say(f"resolving conf/jars/{module} with full metadata (a minute)")
        ivy.retrieve(
            find_java(),
            ivy.SETTINGS.with_name(module),
            pattern=pattern,
            cache=folder / "cache",
            poms=True,
            on_jar=lambda: None,
        )
        jars = [_as_locked(path, folder / "out") for path in sorted((folder / "out").rglob("*.jar"))]
    kept = without_shipped(jars, [path.name for path in ivy.ivy_jar().parent.glob("*.jar")])
    lock.write_text(lock_text(kept, lock), encoding="utf-8")
    say(f"wrote {lock}: {len(kept)} jars, {len(jars) - len(kept)} left to pyspark")


def _as_locked(path: Path, root: Path) -> LockedJar:
    jar_set, organisation, module, revision, _ = path.relative_to(root).parts
    sha256 = file_sha256(path)
    assert sha256 is not None
    return LockedJar(
        jar_set=JarSet(jar_set), organisation=organisation, module=module, revision=revision, sha256=sha256
    )


def without_shipped(jars: Iterable[LockedJar], shipped_files: Iterable[str]) -> list[LockedJar]:
    """Return the jars without those, of all sets but the broker's, that pyspark has in any version: two would clash."""
    shipped_modules = {re.sub(r"-\d[^/]*\.jar$", "", name) for name in shipped_files}
    return [jar for jar in jars if jar.jar_set is JarSet.BROKER or jar.module not in shipped_modules]


def lock_text(jars: Iterable[LockedJar], lock: Path = JAR_LOCK) -> str:
    """Return the lock file's text, the same for the same jars in any order."""
    ordered = sorted(jars, key=lambda jar: (jar.jar_set is JarSet.BROKER, jar.coordinate))
    module, meaning = MODULES[lock]
    header = HEADER.format(module=module, meaning=meaning)
    return header + "".join(f"{jar.jar_set:<6} {jar.coordinate} sha256:{jar.sha256}\n" for jar in ordered)


if __name__ == "__main__":
    sys.exit(main())
