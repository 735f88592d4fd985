"""`thalweg edge prepare`: by a file or by a record of the sync plane, the region's own first."""

import json
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.unit.jobs.rollout.small_plane import PREFIX, SmallPlane
from thalweg.cli import edge_command
from thalweg.cli.edge_command import edge
from thalweg.cli.reach import declared_preparation
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.broker.errors import BrokerUnavailableError

OF_ALL = {"revision": 1, "window_s": 1, "keep": [{"field": "y", "one_of": [1]}]}
OF_BERN = {"revision": 2, "window_s": 1, "keep": [{"field": "y", "one_of": [0, 2]}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savez(tmp_path / "in.npz", x=np.eye(3), y=np.arange(3))
    return tmp_path


def call(folder: Path, *more: str) -> Any:
    return CliRunner().invoke(edge, ["prepare", str(folder / "in.npz"), str(folder / "out.npz"), *more])


def test_by_a_file(folder: Path) -> None:
    (folder / "how.json").write_text(json.dumps(OF_ALL))
    told = call(folder, f"--declaration={folder / 'how.json'}")
    assert (told.exit_code, "1 row of 3" in told.output) == (0, True), told.output
    assert np.load(folder / "out.npz")["y"].tolist() == [1]


def test_sigterm_takes_away_what_lies_beside_the_result_as_ctrl_c_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(source: Path, target: Path, *_: Any, **__: Any) -> None:
        with tempfile.TemporaryDirectory(prefix=".prepared-", dir=target.parent):
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("it went on")

    monkeypatch.setattr("thalweg.federation.prepared_file.prepare_file", ended)
    (folder / "how.json").write_text(json.dumps(OF_ALL))
    before = signal.getsignal(signal.SIGTERM)
    told = call(folder, f"--declaration={folder / 'how.json'}")
    assert (told.exit_code, told.output.strip()) == (1, "Aborted!")
    assert not list(folder.glob(".prepared-*")) and signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("values", [np.arange(3).astype("datetime64[s]"), np.arange(3) * 1j, np.array(["1", "2", "3"])])
def test_a_bound_of_what_is_no_number_is_refused_and_drops_no_row(folder: Path, values: Any) -> None:
    np.savez(folder / "in.npz", x=values)
    (folder / "how.json").write_text(json.dumps({"revision": 1, "window_s": 1, "keep": [{"field": "x", "min": 0}]}))
    told = call(folder, f"--declaration={folder / 'how.json'}")
    assert told.exit_code == 2 and "min or max of x" in told.output, told.output
    assert not (folder / "out.npz").exists()


class Topic:
    """The plane's topic `replica`, read to its end."""

    def __init__(self, plane: SmallPlane) -> None:
        self._plane, self._next = plane, 0

    def __enter__(self) -> "Topic":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def poll(self, timeout_ms: int) -> list[IncomingRecord]:
        found = self._plane.log[self._next : self._next + 1]
        self._next += len(found)
        return found

    def end_offsets(self) -> Mapping[tuple[str, int], int]:
        return {(f"{PREFIX}.replica", 0): len(self._plane.log)}

    def position(self, topic: str, partition: int) -> int:
        return self._next


def test_by_a_record_that_of_the_region_before_that_of_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = SmallPlane()
    plane.write("edge/training", {**OF_ALL, "revision": 7})
    plane.write("edge/training", OF_ALL)
    plane.write("edge/other", OF_BERN)
    plane.write("edge/training/bern", OF_BERN)
    monkeypatch.setattr(declared_preparation, "KafkaReader", lambda *_, **__: Topic(plane))
    monkeypatch.setattr(declared_preparation, "ensure_topics", lambda *_: None)
    for region, left in ((["--region=bern"], [0, 2]), (["--region=oslo"], [1]), ([], [1])):
        told = call(folder, "--record=edge/training", "--bootstrap=h:1", "--json", *region)
        assert told.exit_code == 0, told.output
        assert np.load(folder / "out.npz")["y"].tolist() == left
        found = json.loads(told.output)
        assert (found["record"], found["revision"]) == (
            ("edge/training/bern", 2) if region == ["--region=bern"] else ("edge/training", 1)
        )
    told = call(folder, "--record=edge/none", "--bootstrap=h:1", "--region=bern")
    assert (told.exit_code, "no record edge/none/bern nor edge/none" in told.output) == (1, True), told.output


def test_a_broker_that_is_away_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise BrokerUnavailableError("h:1", OSError("nobody"))

    monkeypatch.setattr(declared_preparation, "ensure_topics", away)
    told = call(folder, "--record=edge/training", "--bootstrap=h:1")
    assert (told.exit_code, "h:1" in told.output, (folder / "out.npz").exists()) == (1, True, False), told.output


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "wanted is JSON"),
        ("[]", "wanted is a JSON object"),
        ('{"window_s": 1}', "revision"),
        ('{"revision": 1, "window_s": 1, "keep": [{"field": "z", "min": 1}]}', "the file has x.0, x.1, x.2, y"),
    ],
)
def test_what_declares_nothing_that_can_be_carried_out_is_a_wrong_call(content: str, words: str, folder: Path) -> None:
    (folder / "how.json").write_text(content)
    told = call(folder, f"--declaration={folder / 'how.json'}")
    assert (told.exit_code, words in told.output, (folder / "out.npz").exists()) == (2, True, False), told.output


def test_one_of_record_and_declaration_is_named(folder: Path) -> None:
    told = call(folder)
    assert (told.exit_code, "Allowed is one of --record" in told.output) == (2, True), told.output


@pytest.mark.parametrize("json_too", [True, False])
def test_a_value_without_figure_is_one_refusal_and_no_file(folder: Path, json_too: bool) -> None:
    np.savez(folder / "in.npz", x=np.array([1.0, np.inf]), at=np.array([0, 1]))
    how = {"revision": 1, "window_s": 1, "time": {"field": "at"}, "figures": {"x": "p95"}}
    (folder / "how.json").write_text(json.dumps(how))
    told = call(folder, f"--declaration={folder / 'how.json'}", *(["--json"] if json_too else []))
    assert (told.exit_code, "row 2: x is inf; allowed are finite" in told.output) == (2, True), told.output
    assert not list(folder.glob("*out*"))


def test_a_whole_record_is_taken_and_errors_name_the_file(folder: Path) -> None:
    how = folder / "how.json"
    how.write_text(json.dumps({"key": "edge/training", "value": OF_ALL}))
    assert call(folder, f"--declaration={how}").exit_code == 0
    how.write_text(json.dumps({"key": "edge/training", "value": OF_ALL, "more": 1}))
    told = call(folder, f"--declaration={how}")
    assert told.exit_code == 2 and str(how) in told.output and "allowed are revision, keep" in told.output
    told = CliRunner().invoke(
        edge, ["prepare", str(folder / "in.npz"), str(folder / "no/o.npz"), f"--declaration={how}"]
    )
    assert (told.exit_code, f"there is no folder {folder / 'no'}" in told.output) == (2, True), told.output


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (30, 10, "3.0 times fewer bytes"),
        (9, 10, "1.1 times as many bytes"),
        (100, 101, "about as many"),
        (9, 0, "nothing is left"),
    ],
)
def test_bytes_are_compared_in_words_that_are_true(before: int, after: int, words: str) -> None:
    assert edge_command._less(before, after) == words
