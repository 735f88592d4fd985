"""Fetching the jars: what the lock says, whole or not at all. The repository is a folder, Ivy is the real one."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from thalweg.bootstrap import print_jars
from thalweg.bootstrap.ivy import ivy_jar
from thalweg.bootstrap.jars import ensure_jars, module_file, wrong_jars
from thalweg.bootstrap.relock_jars import lock_text, without_shipped
from thalweg.conf.environment import (
    JAR_LOCK,
    PROJECT_ROOT,
    S3_JAR_LOCK,
    JarSet,
    LockedJar,
    SetupIncompleteError,
    find_java,
    jar_paths,
    locked_jars,
)

SETTINGS = """\
<ivysettings>
  <property name="ivy.checksums" value=""/>
  <settings defaultResolver="folder"/>
  <caches defaultCacheDir="${{thalweg.ivy.cache}}"/>
  <resolvers>
    <filesystem name="folder"><artifact pattern="{repository}/[artifact]-[revision].[ext]"/></filesystem>
  </resolvers>
</ivysettings>
"""


class Repository:
    """A Maven repository in a folder, a lock for what it holds, and an environment that uses both."""

    def __init__(self, folder: Path, contents: dict[str, bytes]) -> None:
        self.files = folder / "repository"
        self.files.mkdir()
        jars = []
        for module, content in contents.items():
            (self.files / f"{module}-1.0.jar").write_bytes(content)
            jars.append(jar(module, sha256=hashlib.sha256(content).hexdigest()))
        self.lock = folder / "jars.lock"
        self.lock.write_text(lock_text(jars))
        settings = folder / "ivysettings.xml"
        settings.write_text(SETTINGS.format(repository=self.files))
        self.cache = folder / "cache"
        self.environ = {"THALWEG_CACHE": str(self.cache), "THALWEG_IVY_SETTINGS": str(settings)}

    def fetch(self) -> Path:
        return ensure_jars(find_java(), {**os.environ, **self.environ}, self.lock)


def jar(module: str, *, sha256: str = "0" * 64, jar_set: JarSet = JarSet.SPARK) -> LockedJar:
    return LockedJar(jar_set=jar_set, organisation="org.example", module=module, revision="1.0", sha256=sha256)


def test_locked_jars_are_fetched_once(tmp_path: Path) -> None:
    repository = Repository(tmp_path, {"alpha": b"A" * 1000, "beta": b"B"})
    folder = repository.fetch()
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == [
        "spark",
        "spark/alpha-1.0.jar",
        "spark/beta-1.0.jar",
    ]
    (repository.files / "alpha-1.0.jar").unlink()
    assert repository.fetch() == folder  # nothing is asked for again


def test_a_jar_that_differs_from_the_lock_is_refused_and_nothing_is_installed(tmp_path: Path) -> None:
    repository = Repository(tmp_path, {"alpha": b"A", "beta": b"B"})
    good = (repository.files / "beta-1.0.jar").read_bytes()
    (repository.files / "beta-1.0.jar").write_bytes(b"something else")
    with pytest.raises(SetupIncompleteError, match=r"org\.example:beta:1\.0 should have SHA-256 .*, has .*Nothing was"):
        repository.fetch()
    assert [path.name for path in (repository.cache / "jars").iterdir() if not path.name.startswith(".")] == []
    (repository.files / "beta-1.0.jar").write_bytes(good)  # the same command works once the cause is gone
    assert (repository.fetch() / "spark" / "beta-1.0.jar").read_bytes() == good


def test_a_jar_the_repository_lacks_is_named(tmp_path: Path) -> None:
    repository = Repository(tmp_path, {"alpha": b"A", "beta": b"B"})
    (repository.files / "beta-1.0.jar").unlink()
    with pytest.raises(SetupIncompleteError, match=r"Fetching jars failed: .*org\.example#beta;1\.0"):
        repository.fetch()


def test_two_threads_fetching_at_once_fetch_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    repository = Repository(tmp_path, {"alpha": b"A"})
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(repository.fetch())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(folders) == 3
    assert capfd.readouterr().err.count("fetching 1 JVM jars") == 1


def test_a_kill_in_the_middle_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    repository = Repository(tmp_path, {"alpha": b"A", "beta": b"B"})
    # Ivy waits for ever on a pipe in place of a jar: a download that stands still.
    real = (repository.files / "beta-1.0.jar").read_bytes()
    (repository.files / "beta-1.0.jar").unlink()
    os.mkfifo(repository.files / "beta-1.0.jar")
    program = (
        "import sys; from pathlib import Path; from thalweg.conf.environment import find_java;"
        " from thalweg.bootstrap.jars import ensure_jars; import os;"
        " ensure_jars(find_java(), os.environ, Path(sys.argv[1]))"
    )
    fetching = subprocess.Popen(
        [sys.executable, "-c", program, str(repository.lock)],
        env={**os.environ, **repository.environ},
        cwd=PROJECT_ROOT,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(repository.cache.rglob("ivy/**/alpha*.jar")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(fetching.pid, signal.SIGKILL)
    fetching.wait()
    assert [path.name for path in (repository.cache / "jars").iterdir() if not path.name.startswith(".")] == []

    (repository.files / "beta-1.0.jar").unlink()
    (repository.files / "beta-1.0.jar").write_bytes(real)
    assert (repository.fetch() / "spark" / "alpha-1.0.jar").read_bytes() == b"A"


def test_wrong_jars_tells_a_changed_one_from_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "spark").mkdir()
    (tmp_path / "spark" / "alpha-1.0.jar").write_bytes(b"A")
    alpha, beta = jar("alpha"), jar("beta")
    assert wrong_jars(tmp_path, [alpha, beta]) == [(alpha, hashlib.sha256(b"A").hexdigest()), (beta, "nothing")]


def test_the_module_file_follows_no_dependency() -> None:
    text = module_file([jar("alpha"), jar("beta", jar_set=JarSet.BROKER)])
    assert text.count('transitive="false"') == 2
    assert 'conf="broker-&gt;*"' in text or 'conf="broker->*"' in text


def test_what_pyspark_ships_is_left_out_of_the_spark_set_only() -> None:
    jars = [jar("jackson-core"), jar("kafka-clients"), jar("jackson-core", jar_set=JarSet.BROKER)]
    kept = without_shipped(jars, ["jackson-core-2.21.2.jar", "spark-core_2.13-4.2.0.jar"])
    assert kept == [jar("kafka-clients"), jar("jackson-core", jar_set=JarSet.BROKER)]


def test_the_lock_is_the_same_text_for_any_order() -> None:
    jars = [jar("beta"), jar("alpha", jar_set=JarSet.BROKER), jar("alpha")]
    assert lock_text(jars) == lock_text(reversed(jars))


def test_the_committed_lock_reads_and_clashes_with_nothing_pyspark_ships() -> None:
    jars = locked_jars()
    assert JAR_LOCK.read_text() == lock_text(jars)
    assert without_shipped(jars, [path.name for path in ivy_jar().parent.glob("*.jar")]) == list(jars)
    modules = {(jar.jar_set, jar.module): jar.revision for jar in jars}
    assert modules[JarSet.SPARK, "spark-sql-kafka-0-10_2.13"] == "4.2.0"
    assert modules[JarSet.SPARK, "delta-spark_4.2_2.13"] == "4.4.0"
    assert (JarSet.BROKER, "kafka_2.13") in modules


def test_the_lock_for_s3_holds_the_shipped_hadoops_own_and_no_class_that_pyspark_has() -> None:
    jars = locked_jars(S3_JAR_LOCK)
    assert S3_JAR_LOCK.read_text() == lock_text(jars, S3_JAR_LOCK)
    shipped = [path.name for path in ivy_jar().parent.glob("*.jar")]
    assert without_shipped(jars, shipped) == list(jars)
    assert {jar.jar_set for jar in jars} == {JarSet.S3}
    modules = {jar.module: jar.revision for jar in jars}
    assert f"hadoop-client-api-{modules['hadoop-aws']}.jar" in shipped
    assert "commons-logging" not in modules, "jcl-over-slf4j has its classes"


def test_only_what_spark_can_be_given_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["broker"], ["s3", "s3"], ["--help"]):
        assert print_jars.main(wrong) == 2
        told = capsys.readouterr()
        assert "print_jars [s3]" in told.err and not told.out


def test_a_lock_is_asked_for_by_its_set(tmp_path: Path) -> None:
    with pytest.raises(SetupIncompleteError, match="print_jars s3"):
        jar_paths(JarSet.S3, {"THALWEG_CACHE": str(tmp_path)})
    with pytest.raises(SetupIncompleteError, match="doctor"):
        jar_paths(JarSet.SPARK, {"THALWEG_CACHE": str(tmp_path)})


@pytest.mark.parametrize("line", ["spark a:b sha256:00", "driver a:b:c sha256:" + "0" * 64, "spark a:b:c sha256:xyz"])
def test_a_damaged_lock_is_refused_naming_the_line(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "jars.lock"
    lock.write_text(f"# comment\n{line}\n")
    with pytest.raises(SetupIncompleteError, match=r"jars\.lock:2 reads .*git checkout"):
        locked_jars(lock)
