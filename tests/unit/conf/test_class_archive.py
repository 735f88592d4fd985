"""Which archive of classes a JVM is told of: that of its own runtime and class path, or none."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from thalweg.conf import class_archive
from thalweg.conf.class_archive import archive_flags, archive_of, length_file, with_options
from thalweg.conf.environment import JarSet, Java

JAVA = Java(home=Path("/java"), major=17, version="17.0.1", source="PATH")


@pytest.fixture
def jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    found = [tmp_path / "one.jar", tmp_path / "two.jar"]
    for jar in found:
        jar.write_bytes(b"classes")
    monkeypatch.setattr(class_archive, "jar_paths", lambda *_: found)
    return found


@pytest.mark.parametrize("jar_set", JarSet)
def test_an_archive_is_of_one_java_and_of_jars_that_nobody_has_touched(
    jars: list[Path], tmp_path: Path, jar_set: JarSet
) -> None:
    environ = {"THALWEG_CACHE": str(tmp_path / "cache")}
    first = archive_of(jar_set, JAVA, environ)
    assert first.parent == tmp_path / "cache" / "classes"
    assert archive_of(jar_set, JAVA, environ) == first
    others = [archive_of(jar_set, replace(JAVA, version="17.0.2"), environ)]
    os.utime(jars[0], ns=(1, 1))
    others.append(archive_of(jar_set, JAVA, environ))
    jars[1].write_bytes(b"other classes")
    others.append(archive_of(jar_set, JAVA, environ))
    assert len({first, *others}) == 4


def test_a_jvm_is_told_of_an_archive_once_it_is_there(jars: list[Path], tmp_path: Path) -> None:
    environ = {"THALWEG_CACHE": str(tmp_path)}
    assert archive_flags(JarSet.BROKER, JAVA, environ) == ()
    archive = archive_of(JarSet.BROKER, JAVA, environ)
    archive.parent.mkdir()
    archive.write_bytes(b"classes")
    assert archive_flags(JarSet.BROKER, JAVA, environ) == ()  # nobody says that it is whole
    length_file(archive).write_text("7")
    assert archive_flags(JarSet.BROKER, JAVA, environ)[0] == f"-XX:SharedArchiveFile={archive}"
    archive.write_bytes(b"cla")
    assert archive_flags(JarSet.BROKER, JAVA, environ) == ()


def test_options_for_spark_come_behind_those_that_are_there_and_may_hold_blanks() -> None:
    assert with_options([], None) == ""
    assert with_options([], "-Dx=1") == "-Dx=1"
    assert with_options(["-XX:SharedArchiveFile=/a b/c.jsa"], "-Dx=1") == '-Dx=1 "-XX:SharedArchiveFile=/a b/c.jsa"'
