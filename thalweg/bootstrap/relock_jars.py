"""Make conf/jars/jars.lock anew from conf/jars/ivy.xml: ``.venv/bin/python -m thalweg.bootstrap.relock_jars``.

Resolves both sets with the repository's full metadata, leaves out of the spark set what pyspark ships itself, and
writes coordinates with the hashes of what came. Read the difference before committing it.
"""

import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from thalweg.bootstrap import ivy
from thalweg.bootstrap.jars import file_sha256
from thalweg.bootstrap.progress import say
from thalweg.conf.environment import JAR_LOCK, JarSet, LockedJar, find_java

HEADER = """\
# The JVM jars, exactly. Made from conf/jars/ivy.xml by: .venv/bin/python -m thalweg.bootstrap.relock_jars
# spark: what Delta and the Kafka connector need beside the jars that pyspark ships. broker: a whole class path.
"""


def main() -> int:
    """Resolve, filter, write; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="thalweg-relock-") as scratch:
        folder = Path(scratch)
        pattern = str(folder / "out" / "[conf]" / "[organisation]" / "[module]" / "[revision]" / "[artifact].[ext]")
        say("resolving conf/jars/ivy.xml with full metadata (a minute)")
        ivy.retrieve(
            find_java(),
            ivy.SETTINGS.with_name("ivy.xml"),
            pattern=pattern,
            cache=folder / "cache",
            poms=True,
            on_jar=lambda: None,
        )
        jars = [_as_locked(path, folder / "out") for path in sorted((folder / "out").rglob("*.jar"))]
    kept = without_shipped(jars, [path.name for path in ivy.ivy_jar().parent.glob("*.jar")])
    JAR_LOCK.write_text(lock_text(kept), encoding="utf-8")
    say(f"wrote {JAR_LOCK}: {len(kept)} jars, {len(jars) - len(kept)} left to pyspark")
    return 0


def _as_locked(path: Path, root: Path) -> LockedJar:
    jar_set, organisation, module, revision, _ = path.relative_to(root).parts
    sha256 = file_sha256(path)
    assert sha256 is not None
    return LockedJar(
        jar_set=JarSet(jar_set), organisation=organisation, module=module, revision=revision, sha256=sha256
    )


def without_shipped(jars: Iterable[LockedJar], shipped_files: Iterable[str]) -> list[LockedJar]:
    """Return the jars without those of the spark set that pyspark has in any version: two would clash."""
    shipped_modules = {re.sub(r"-\d[^/]*\.jar$", "", name) for name in shipped_files}
    return [jar for jar in jars if jar.jar_set is JarSet.BROKER or jar.module not in shipped_modules]


def lock_text(jars: Iterable[LockedJar]) -> str:
    """Return the lock file's text, the same for the same jars in any order."""
    ordered = sorted(jars, key=lambda jar: (jar.jar_set is JarSet.BROKER, jar.coordinate))
    return HEADER + "".join(f"{jar.jar_set:<6} {jar.coordinate} sha256:{jar.sha256}\n" for jar in ordered)


if __name__ == "__main__":
    sys.exit(main())
