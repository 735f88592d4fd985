"""The class archives of the broker and of Spark, made by a rehearsal and mapped by the real JVMs."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.patience import PATIENCE_S
from thalweg.bootstrap.jars import ensure_jars
from thalweg.conf.class_archive import ARCHIVED, KEPT, archive_of
from thalweg.conf.environment import JarSet, find_java
from thalweg.stack import rehearsal
from thalweg.stack.broker import Broker
from thalweg.stack.rehearsal import ensure_archives

pytestmark = pytest.mark.acceptance

SESSION = """
import psutil
from thalweg.conf.settings import load_settings
from thalweg.jobs.runtime.job import spark_session
with spark_session("test", load_settings(None, ["spark.driver_memory=1g"])) as spark:
    assert spark.range(3).count() == 3
    jvm = psutil.Process(spark.sparkContext._gateway.proc.pid)
    print(*(mapped.path for mapped in jvm.memory_maps()), sep="\\n")
"""


def mapped_by(pid: int) -> set[str]:
    return {mapped.path for mapped in psutil.Process(pid).memory_maps()}


def test_the_broker_and_spark_map_what_a_rehearsal_has_laid_out(tmp_path: Path) -> None:
    java, told = find_java(), list[str]()
    ensure_jars(java)
    ensure_archives(told.append)
    assert not told or told[-1].startswith("Java's classes are laid out")
    again = list[str]()
    ensure_archives(again.append)
    assert again == []  # once is enough
    with Broker(tmp_path / "broker") as broker:
        assert str(archive_of(JarSet.BROKER, java)) in mapped_by(broker.pid)
    session = subprocess.run(
        [sys.executable, "-c", SESSION],
        env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert session.returncode == 0, session.stderr
    assert str(archive_of(JarSet.SPARK, java)) in session.stdout.splitlines()


@pytest.mark.parametrize("missing", ARCHIVED)
def test_the_one_that_is_missing_is_made_and_the_other_left(
    missing: JarSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A new environment brings new jars of Spark, and finds the broker's archive from the one before it.
    java, told = find_java(), list[str]()
    (tmp_path / "jars").symlink_to(ensure_jars(java).parent)
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    monkeypatch.setattr(
        rehearsal, "_rehearse_spark", lambda _scratch, archive, _bootstrap: archive.write_text("Spark's")
    )
    ensure_archives(told.append)
    assert told[-1].startswith("Java's classes are laid out"), told
    kept = {jar_set: archive_of(jar_set, java).stat().st_mtime_ns for jar_set in ARCHIVED}
    for number in range(KEPT):  # of environments made since
        (tmp_path / "classes" / f"spark-{number}.jsa").write_text("another's")
    archive_of(missing, java).unlink()
    ensure_archives(told.append)
    assert told[-1].startswith("Java's classes are laid out"), told
    again = {jar_set: archive_of(jar_set, java).stat().st_mtime_ns for jar_set in ARCHIVED}
    assert {jar_set for jar_set in ARCHIVED if again[jar_set] != kept[jar_set]} == {missing}


def test_where_java_cannot_make_one_that_is_said_and_nothing_else_is_prevented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = find_java()
    jars = ensure_jars(real)
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / jars.name).symlink_to(jars)
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    poor = tmp_path / "java"
    (poor / "bin").mkdir(parents=True)
    (poor / "bin" / "java").write_text("#!/bin/sh\necho no such option >&2\nexit 1\n")
    (poor / "bin" / "java").chmod(stat.S_IRWXU)
    told = list[str]()
    ensure_archives(told.append, java=type(real)(home=poor, major=17, version="17", source="JAVA_HOME"))
    assert "were not laid out" in told[-1] and "no such option" in told[-1]
    assert os.listdir(tmp_path / "classes") == []
