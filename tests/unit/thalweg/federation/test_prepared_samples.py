"""A participant that trains on prepared data by itself, from the record to the round, anew when the file changes."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyarrow import parquet

pytest.importorskip("cryptography", reason="the extra `learning` is not installed")

from tests.unit.cli.test_edge_command import Topic
from tests.unit.jobs.rollout.small_plane import SmallPlane
from tests.unit.thalweg.federation.test_local_samples import asked
from thalweg.cli import take_part_command
from thalweg.cli.federate_command import federate
from thalweg.cli.reach import declared_preparation
from thalweg.edge.declaration import read_declaration
from thalweg.federation.local_samples import SamplesError, read_columns, read_samples
from thalweg.federation.prepared_samples import PreparedTrainingData
from thalweg.learning.local.network import LayeredNetwork

HOW = {
    "revision": 3, "window_s": 0.01, "thing": ["device"], "time": {"field": "at"}, "figures": {"load": "mean"},
    "at_once": ["worn"], "keep": [{"field": "load", "min": 0}],
}  # fmt: skip
NETWORK = LayeredNetwork(inputs=2, hidden=0, classes=2)


def readings(file: Path, windows: int) -> None:
    """Ten readings a window of one device, which is worn in every second window; two of them are broken."""
    at = np.arange(10 * windows)
    load = np.where(at % 5 == 4, -1.0, (at // 10 % 2) * 4.0 + at % 5)
    columns = {"device": at * 0, "at": at, "load": load, "wait": at * 1.0, "worn": at // 10 % 2}
    draft = file.with_name("draft")
    parquet.write_table(pa.table(columns), draft)
    draft.replace(file)


def read(file: Path) -> Any:
    return read_columns(file, ["load", "wait"], "worn")


def test_the_command_trains_on_what_the_record_leaves_and_anew_when_the_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, seen = SmallPlane(), []
    plane.write("edge/training", {**HOW, "revision": 2, "figures": {"load": "max"}})
    plane.write("edge/training/bern", HOW)
    readings(tmp_path / "readings.parquet", 40)

    def rounds(participant: Any, wait: Any) -> Any:
        for number, windows in ((1, 40), (2, 40), (3, 60)):
            readings(tmp_path / "readings.parquet", windows) if number == 3 else None
            told = participant._train(np.zeros(NETWORK.parameters, np.float32), asked(NETWORK.parameters, number))
            seen.append(told.samples)
        return asked(NETWORK.parameters)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(declared_preparation, "KafkaReader", lambda *_, **__: Topic(plane))
    monkeypatch.setattr(declared_preparation, "ensure_topics", lambda *_: None)
    monkeypatch.setattr(take_part_command.signal, "signal", lambda *_: None)  # the handler would outlive this test
    monkeypatch.setattr(take_part_command, "take_part_in", rounds)
    closes = type("Closes", (), {"close": lambda self: None})
    monkeypatch.setattr(take_part_command, "_connected", lambda *_: (closes(), closes()))
    call = ["take-part", "wear", "--bootstrap=h:1", "--name=p", "--region=bern", "--samples=readings.parquet"]
    told = CliRunner().invoke(federate, [*call, "--label=worn", "--inputs=load,wait", "--prepare-by=edge/training"])
    assert told.exit_code == 0, told.output
    assert seen == [40, 40, 60], "one row a window"
    sidecar = json.loads((tmp_path / "prepared-readings.parquet.prepared.json").read_text())
    assert (sidecar["record"], sidecar["revision"], sidecar["rows_in"]) == ("edge/training/bern", 3, 600)
    left = read(tmp_path / "prepared-readings.parquet")
    assert left.x[:4, 0].tolist() == [1.5, 5.5, 1.5, 5.5] and left.y[:4].tolist() == [0, 1, 0, 1]


def test_a_file_that_cannot_be_prepared_later_changes_nothing_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "readings.parquet"
    readings(source, 4)
    prepared = PreparedTrainingData(source, tmp_path / "out.parquet", "edge/training", read_declaration(HOW), read)
    first = prepared.now()
    source.write_bytes(b"half of a file")
    with caplog.at_level(logging.WARNING):
        assert prepared.now() is first and prepared.now() is first
    assert len(caplog.records) == 1 and "readings.parquet" in caplog.text and "edge/training" in caplog.text
    source.unlink()
    assert prepared.now() is first
    readings(source, 6)
    assert prepared.now().y.size == 6


def test_a_file_that_cannot_be_prepared_at_the_start_is_a_wrong_call(tmp_path: Path) -> None:
    how = read_declaration({**HOW, "figures": {"heat": "mean"}})
    with pytest.raises(SamplesError, match=r"nowhere.parquet: No such file"):
        PreparedTrainingData(tmp_path / "nowhere.parquet", tmp_path / "out.parquet", "edge/training", how, read)
    readings(tmp_path / "in.parquet", 2)
    with pytest.raises(SamplesError, match="by edge/training: field 'heat': the file has device, at"):
        PreparedTrainingData(tmp_path / "in.parquet", tmp_path / "out.parquet", "edge/training", how, read)


def test_a_prepared_archive_is_read_as_samples_are(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).random((50, 2)), np.arange(50) % 2
    np.savez(tmp_path / "in.npz", x=x, y=y)
    kept = read_declaration({"revision": 1, "window_s": 1, "keep": [{"field": "x.0", "min": 0.5}]})
    now = PreparedTrainingData(tmp_path / "in.npz", tmp_path / "out.npz", "edge/training", kept, read_samples).now()
    assert now.y.tolist() == y[x[:, 0] >= 0.5].tolist()
    assert read_columns(tmp_path / "out.npz", ["x.0", "x.1"], "y").x.tolist() == now.x.tolist()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"load": [1.0], "worn": [1]}, "no column 'wait'; it has load, worn"),
        ({"load": ["a"], "wait": [1.0], "worn": [1]}, "allowed are numbers in every row"),
        ({"load": [None, 1.0], "wait": [1.0, 1.0], "worn": [1, 1]}, "allowed are finite numbers"),
        ({"load": [1.0], "wait": [1.0], "worn": [-1]}, "whole numbers from 0"),
        ({"load": [1.0], "wait": [1.0], "worn": ["a"]}, "whole numbers from 0"),
    ],
)
def test_columns_that_are_no_samples_are_told(columns: Any, words: str, tmp_path: Path) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "in.parquet")
    with pytest.raises(SamplesError, match=words):
        read(tmp_path / "in.parquet")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--train=json:loads", "--prepare-by=edge/training"], "are of --samples FILE"),
        (["--samples=in.npz", "--label=y"], "--label and --inputs, both or neither"),
        (["--samples=in.npz", "--prepared=out.npz"], "--prepare-by KEY"),
    ],
)
def test_options_that_say_nothing_together_are_a_wrong_call(options: list[str], words: str) -> None:
    told = CliRunner().invoke(federate, ["take-part", "m", "--bootstrap=h:1", "--name=p", "--region=bern", *options])
    assert told.exit_code == 2 and words in told.output, told.output
