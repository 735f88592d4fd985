import os
from pathlib import Path

import pytest

from thalweg.agent.runners import RunnerError
from thalweg.agent.secret_store import SecretStore

VALUE = "s3cr3t-value"


def put(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_a_folder_has_a_file_for_each_as_kubernetes_mounts_them(tmp_path: Path) -> None:
    put(tmp_path / "..2026_11" / "TOKEN", f"{VALUE}\n", 0o440)
    (tmp_path / "..data").symlink_to("..2026_11")
    (tmp_path / "TOKEN").symlink_to("..data/TOKEN")
    assert SecretStore(tmp_path).values(["TOKEN", "TOKEN"]) == {"TOKEN": VALUE}


def test_a_file_has_a_line_for_each(tmp_path: Path) -> None:
    file = put(tmp_path / "secrets.env", f"# ours\nTOKEN={VALUE}\nURL=https://x/?a=b\n")
    assert SecretStore(file).values(["URL", "TOKEN"]) == {"URL": "https://x/?a=b", "TOKEN": VALUE}


def test_who_asks_for_none_needs_no_store() -> None:
    assert SecretStore().values([]) == {}


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o602, 0o644, 0o666])
def test_a_secret_that_others_could_read_or_change_is_not_used(tmp_path: Path, mode: int) -> None:
    put(tmp_path / "TOKEN", VALUE, mode)
    with pytest.raises(RunnerError, match=f"mode {mode:04o}") as refused:
        SecretStore(tmp_path).values(["TOKEN"])
    assert VALUE not in str(refused.value)


@pytest.mark.parametrize("content", [VALUE.encode() + b"\xff", VALUE.encode() + b"\0", b"x" * 1_048_577])
def test_what_no_variable_can_hold_is_refused_without_its_value(tmp_path: Path, content: bytes) -> None:
    put(tmp_path / "TOKEN", content)
    with pytest.raises(RunnerError, match="secret 'TOKEN'") as refused:
        SecretStore(tmp_path).values(["TOKEN"])
    assert VALUE not in str(refused.value)
    assert "xxx" not in str(refused.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    file = put(tmp_path / "file", f"OTHER={VALUE}\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    for store in (SecretStore(), SecretStore(file), SecretStore(folder), SecretStore(tmp_path / "nowhere")):
        with pytest.raises(RunnerError, match="was not found") as refused:
            store.values(["TOKEN"])
        assert VALUE not in str(refused.value)


def test_a_pipe_in_the_store_blocks_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "TOKEN")
    with pytest.raises(RunnerError, match="no regular file"):
        SecretStore(tmp_path).values(["TOKEN"])
