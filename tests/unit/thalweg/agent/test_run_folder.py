import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.agent.run_folder import MAX_ARTEFACTS, MAX_FILE_BYTES, RunFolder
from thalweg.agent.runners import RunOutputs


def outputs(path: Path, *, final: bool = True) -> RunOutputs:
    return RunFolder(path).outputs(lambda name: f"file://h/{name}", final=final)


def test_what_a_task_wrote_is_read(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"accuracy": 0.97, "model": {"layers": 3}}')
    (tmp_path / "metrics.json").write_text('{"loss": 1, "accuracy": 0.97}')
    (tmp_path / "checkpointed").touch()
    os.utime(tmp_path / "checkpointed", (1_000, 1_000.5))
    (tmp_path / "artefacts" / "sub").mkdir(parents=True)
    (tmp_path / "artefacts" / "sub" / "weights.bin").touch()
    seen = outputs(tmp_path)
    assert seen.result == {"accuracy": 0.97, "model": {"layers": 3}}
    assert seen.metrics == {"loss": 1.0, "accuracy": 0.97}
    assert seen.checkpointed_ms == 1_000_500
    assert seen.artefacts == {"sub/weights.bin": "file://h/artefacts/sub/weights.bin"}
    assert (seen.log, seen.trouble) == ("file://h/output.log", "")


def test_a_task_that_wrote_nothing_has_given_nothing(tmp_path: Path) -> None:
    assert outputs(tmp_path) == outputs(tmp_path / "removed") == RunOutputs(log="file://h/output.log")


def test_of_a_running_task_the_result_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"half')
    (tmp_path / "metrics.json").write_text('{"loss": 1}')
    seen = outputs(tmp_path, final=False)
    assert (seen.result, seen.metrics, seen.trouble) == (None, {"loss": 1.0}, "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[1, 2]", "Expected `object`"),
        (b"not json", "malformed"),
        (b"", "truncated"),
        (b'{"a": NaN}', "malformed"),
        (b'{"a": 1e999}', "out of range"),
        (b'{"a": "\xff"}', "utf-8"),
        (b'{"a": "\\ud800"}', ""),
        (b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "nested deeper"),
        (json.dumps({"a": "x" * MAX_FILE_BYTES}).encode(), "longer than 16,384 bytes"),
    ],
)
def test_a_result_that_cannot_be_taken_is_said_and_spoils_nothing_else(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / "result.json").write_bytes(text)
    (tmp_path / "metrics.json").write_text('{"loss": 1}')
    seen = outputs(tmp_path)
    assert seen.result is None
    assert seen.trouble.startswith("result not taken: ")
    assert words in seen.trouble
    assert seen.metrics == {"loss": 1.0}


@pytest.mark.parametrize("text", ['{"a": "b"}', '{"": 1}', '{"a": null}', json.dumps({f"m{n}": n for n in range(300)})])
def test_metrics_are_figures_by_name_and_not_too_many(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    seen = outputs(tmp_path)
    assert seen.metrics == {}
    assert seen.trouble.startswith("metrics not taken: ")


def test_links_are_not_followed_and_pipes_block_nobody(tmp_path: Path) -> None:
    secret = tmp_path / "outside.json"
    secret.write_text('{"password": 1}')
    run = tmp_path / "run"
    run.mkdir()
    (run / "result.json").symlink_to(secret)
    os.mkfifo(run / "metrics.json")
    (run / "artefacts").symlink_to(tmp_path)
    (run / "checkpointed").symlink_to("nowhere")
    seen = outputs(run)
    assert (seen.result, seen.metrics, seen.artefacts) == (None, {}, {})
    assert "link, which is not followed" in seen.trouble
    assert "no regular file" in seen.trouble


def test_artefacts_that_are_links_or_pipes_are_left_out(tmp_path: Path) -> None:
    kept = tmp_path / "artefacts"
    kept.mkdir()
    (kept / "real").touch()
    (kept / "link").symlink_to("/etc/passwd")
    (kept / "folder").symlink_to("/etc")
    os.mkfifo(kept / "pipe")
    assert list(outputs(tmp_path).artefacts) == ["real"]


def test_so_many_artefacts_are_named_as_a_message_holds(tmp_path: Path) -> None:
    (tmp_path / "artefacts").mkdir()
    for number in range(MAX_ARTEFACTS + 5):
        (tmp_path / "artefacts" / f"{number:04}").touch()
    (tmp_path / "artefacts" / "0000\nx").touch()  # of a name that is no text there is no word
    os.close(os.open(os.fsencode(tmp_path / "artefacts") + b"/0000\xff", os.O_CREAT))
    seen = outputs(tmp_path)
    assert len(seen.artefacts) == MAX_ARTEFACTS
    assert "5 more lie beside those named" in seen.trouble


def test_a_file_where_a_folder_is_expected_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "artefacts").write_text("x")
    assert outputs(tmp_path).artefacts == {}


@given(st.binary(max_size=200))
def test_whatever_bytes_a_task_writes_the_run_has_its_outputs(
    tmp_path_factory: pytest.TempPathFactory, text: bytes
) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / "result.json").write_bytes(text)
    (folder / "metrics.json").write_bytes(text)
    seen = outputs(folder)
    assert (seen.result is None) == ("result not taken" in seen.trouble)
