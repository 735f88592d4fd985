"""Who may read and act; what of a key is told to nobody."""

from pathlib import Path

import pytest

from thalweg.conf.bearer_keys import KeyNeededError, NoSuchKeyError
from thalweg.conf.settings import WindowSettings, load_settings
from thalweg.window.keys import Keys, WindowSettingsError, is_own_name

SECRET = "a-secret-of-many-letters"


def window(tmp_path: Path, **more: object) -> WindowSettings:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    key = {"tenant": "research", "acts": True, "secret_file": str(file)}
    return WindowSettings.model_validate({"keys": {"lab": key}, **more})


def test_on_loopback_anybody_reads_and_a_key_acts_for_its_tenant(tmp_path: Path) -> None:
    keys = Keys(window(tmp_path))
    nobody, lab = keys.caller(None), keys.caller(f"Bearer {SECRET}")
    assert (nobody.name, nobody.tenant, nobody.may_act) == ("", None, False)
    assert (lab.name, lab.tenant, lab.may_act) == ("lab", "research", True)
    for sent in ("Bearer wrong", f"Basic {SECRET}", "Bearer", f"Bearer {SECRET}x"):
        with pytest.raises(NoSuchKeyError):
            keys.caller(sent)


def test_elsewhere_nobody_reads_without_a_key(tmp_path: Path) -> None:
    with pytest.raises(KeyNeededError):
        Keys(window(tmp_path, host="0.0.0.0")).caller(None)
    assert Keys(window(tmp_path, host="0.0.0.0", open=True)).caller(None).may_act is False
    with pytest.raises(WindowSettingsError, match=r"window\.host is 0\.0\.0\.0.*window\.keys"):
        Keys(WindowSettings(host="0.0.0.0"))
    with pytest.raises(KeyNeededError):
        Keys(window(tmp_path, open=False)).caller(None)


def test_a_secret_comes_from_the_environment_and_is_shown_nowhere() -> None:
    settings = load_settings(
        None, [], {"THALWEG_WINDOW__KEYS__LAB__SECRET": SECRET, "THALWEG_WINDOW__KEYS__LAB__ACTS": "true"}
    )
    assert Keys(settings.window).caller(f"Bearer {SECRET}").may_act
    assert SECRET not in f"{settings!r} {settings.model_dump_json()}"


def test_keys_that_cannot_be_used_are_refused_with_words(tmp_path: Path) -> None:
    def refused(**key: object) -> str:
        with pytest.raises(WindowSettingsError) as found:
            Keys(WindowSettings.model_validate({"keys": {"lab": key}}))
        return str(found.value)

    assert "wanted is one of secret_file and secret" in refused()
    assert "THALWEG_WINDOW__KEYS__LAB__SECRET" in refused()
    assert str(tmp_path / "none") in refused(secret_file=str(tmp_path / "none"))
    assert "allowed are 16" in refused(secret="short")
    assert "short" not in refused(secret="short")
    for secret in ("geheimer-schlüssel-für-alle", "a-secret-with\na-second-line"):  # no header carries them
        assert "allowed are signs of ASCII" in refused(secret=secret)
    with pytest.raises(WindowSettingsError, match="another key has the same secret"):
        Keys(WindowSettings.model_validate({"keys": {name: {"secret": SECRET} for name in ("a", "b")}}))


def test_only_its_own_names_are_answered() -> None:
    settings = WindowSettings(host="10.0.0.7", names=["plane.example.org"])
    for host in ("localhost", "localhost:8470", "127.0.0.1:1", "[::1]:8470", "10.0.0.7:80", "Plane.Example.org"):
        assert is_own_name(host, settings), host
    for host in ("localhost:1@evil.example", "localhost:evil", "localhost:", "[::1", "::1]:1", "localhost:1:2"):
        assert not is_own_name(host, settings), host
    for host in ("", "evil.example", "evil.example:8470", "127.0.0.1.evil.example", "10.0.0.8"):
        assert not is_own_name(host, settings), host
