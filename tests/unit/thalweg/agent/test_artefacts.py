import io
import socket
from pathlib import Path

import pytest

from thalweg.agent.artefacts import ArtefactError, ObjectStore, OwnDisk, SharedFolder, artefacts_at, read_artefact


def test_what_is_put_is_read_by_its_uri_and_replaces_what_was_there(tmp_path: Path) -> None:
    store = artefacts_at(f"file://{tmp_path}/a%20store", tmp_path)
    assert store == SharedFolder(tmp_path / "a store")
    for content in (b"first", b"second"):
        store.put(io.BytesIO(content), "run-1", "artefacts/w #1?.bin")
        assert read_artefact(store.uri("run-1", "artefacts/w #1?.bin")) == content
    assert read_artefact(store.uri("run-1", "other")) is None
    assert [path.name for path in (tmp_path / "a store" / "run-1" / "artefacts").iterdir()] == ["w #1?.bin"]


def test_without_a_setting_files_stay_on_the_agents_disk_whose_host_is_named(tmp_path: Path) -> None:
    store = artefacts_at(None, tmp_path)
    assert store == OwnDisk(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "output.log").write_text("hello")
    uri = store.uri("run", "output.log")
    assert uri == f"file://{socket.gethostname()}{tmp_path}/run/output.log"
    assert read_artefact(uri) == b"hello"
    with pytest.raises(ArtefactError, match="on the disk of elsewhere at /x y, which cannot be read from here"):
        read_artefact("file://elsewhere/x%20y")


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s3://KEY:SECRET@bucket/x", "holds credentials"),
        ("/folder", "allowed is file:///FOLDER"),
        ("file://host/folder", "allowed is file:///FOLDER"),
        ("s3:bucket", "allowed is file:///FOLDER"),
        ("ftp://host/x", "cannot be used"),
    ],
)
def test_a_uri_that_is_not_allowed_is_refused_at_the_start(tmp_path: Path, uri: str, words: str) -> None:
    with pytest.raises(ArtefactError, match=words) as refused:
        artefacts_at(uri, tmp_path)
    assert "SECRET" not in str(refused.value)


def test_an_objects_uri_keeps_what_leads_to_its_store() -> None:
    store = ObjectStore("s3://bucket/runs/?endpoint_override=localhost:9000&scheme=http")
    assert store.uri("t-1", "artefacts/w 1") == (
        "s3://bucket/runs/t-1/artefacts/w%201?endpoint_override=localhost:9000&scheme=http"
    )
