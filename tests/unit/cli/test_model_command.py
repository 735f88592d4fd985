"""`thalweg model`: what is refused is refused in words and by the exit code, and nothing is written then."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVR
from skops.io import dump

from thalweg.cli.model_command import PUBLISHER, begin_life, model
from thalweg.client.replica_client import ReplicaLag
from thalweg.learning.rollout.records import RolloutWish, value_of, wish_key
from thalweg.learning.shrink.pruning import Layer
from thalweg.learning.shrink.sources import written
from thalweg.streams.broker.errors import BrokerUnavailableError
from thalweg.sync.protocol.entries import RegionEntry
from thalweg.sync.replica.replica import Replica
from thalweg.sync.replica.sqlite_store import SqliteStore

EASY = ["--smaller=1", "--points=100", "--repeats=100"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    np.savez(made / "test.npz", x=x[1_200:], y=y[1_200:])
    np.savez(made / "few.npz", x=x[:19], y=y[:19])
    np.savez(made / "words.npz", x=x[:50], y=np.array(["a"] * 50))
    dump(RandomForestClassifier(16, random_state=0).fit(x[:1_200], y[:1_200]), made / "forest.skops")
    dump(SVR().fit(x[:50], y[:50]), made / "regression.skops")
    np.save(made / "final.npy", np.zeros(650, np.float32))
    (made / "digits.onnx").write_bytes(
        written([Layer(weights=np.ones((64, 10), np.float32), bias=np.zeros(10, np.float32))]).SerializeToString()
    )
    for name in ("model.joblib", "model.txt", "broken.onnx", "broken.skops"):
        (made / name).write_bytes(b"cposix\nsystem\n")
    return made


def shrink(folder: Path, name: str, *more: str, held_out: str = "test.npz") -> Result:
    out = folder / "out.onnx"
    out.unlink(missing_ok=True)
    options = ["--held-out", str(folder / held_out), "--out", str(out), *more]
    return CliRunner().invoke(model, ["shrink", str(folder / name), *options])


def test_what_passes_is_written_and_told(folder: Path) -> None:
    told = shrink(folder, "forest.skops", "--json", "--points=30", "--smaller=3", "--repeats=500")
    found: dict[str, Any] = json.loads(told.stdout)
    assert (told.exit_code == 0) == found["passed"] == (folder / "out.onnx").exists()
    assert found["passed"] or found["reasons"][0].startswith("p99"), "size and accuracy are what they are"
    # The mildest comes first, and may be passed over for its p99 alone, which a busy machine moves.
    *passed_over, chosen = found["tried"]
    assert next(one["recipe"] for one in found["tried"]) == "0.25 of its trees"
    assert all(reason.startswith("p99") for one in passed_over for reason in one["reasons"]), passed_over
    assert not chosen["passed"] or chosen["recipe"] == found["recipe"]
    assert found["small"]["size_bytes"] * found["times_smaller"] == pytest.approx(found["full"]["size_bytes"], rel=1e-3)
    assert found["judged_by"] == 298 and found["held_out"] == 597


@pytest.mark.parametrize("name", ["forest.skops", "final.npy", "digits.onnx"])
def test_what_does_not_pass_is_not_written(name: str, folder: Path) -> None:
    told = shrink(folder, name, "--smaller=100", "--repeats=100")
    assert told.exit_code == 1, told.output
    assert "is refused, nothing is written" in told.output and "asked are 100 times" in told.output
    assert not (folder / "out.onnx").exists()


@pytest.mark.parametrize(
    ("name", "held_out", "more", "words"),
    [
        ("model.joblib", "test.npz", [], "a pickle runs what is in it"),
        ("model.txt", "test.npz", [], "allowed are .npy, .skops and .onnx"),
        ("broken.onnx", "test.npz", [], "no ONNX model"),
        ("broken.skops", "test.npz", [], "no model of skops"),
        ("regression.skops", "test.npz", [], "allowed are classifiers"),
        ("final.npy", "test.npz", ["--hidden=7"], "no network of 64 inputs, 7 hidden"),
        ("final.npy", "words.npz", [], "allowed are whole numbers from 0"),
        ("digits.onnx", "few.npz", [], "of at least 20"),
        ("digits.onnx", "broken.onnx", [], "wanted is a .npz file"),
    ],
)
def test_what_cannot_be_read_is_a_wrong_call(
    name: str, held_out: str, more: list[str], words: str, folder: Path
) -> None:
    told = shrink(folder, name, *EASY, *more, held_out=held_out)
    assert (told.exit_code, words in told.output) == (2, True), told.output
    assert not (folder / "out.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "m", "--bootstrap=h:1"], "who serves?"),
        (["serve", "a/b", "--bootstrap=h:1", "--region=r", "--name=n"], "no slash"),
        (["ask", "m", "-", "--server=http://h:1"], "wanted is JSON with `inputs`"),
    ],
)
def test_calls_that_do_not_say_enough_are_wrong(arguments: list[str], words: str) -> None:
    told = CliRunner().invoke(model, arguments, input="[]")
    assert (told.exit_code, words in told.output) == (2, True), told.output


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["serve", "m", "--name=s", "--region=bern", "--edge=e"], "allowed with --rollouts"),
        (["serve", "m", "--name=s", "--region=bern", "--rollouts", "--edge=a/b"], "edge 'a/b'"),
        (["publish", "m", "digits.onnx", "--for-rollout", "--for-region=bern"], "allowed without --for-region"),
    ],
)
def test_roll_outs_are_refused_what_they_cannot_do(call: list[str], words: str, folder: Path) -> None:
    told = CliRunner().invoke(model, [str(folder / one) if one == "digits.onnx" else one for one in call])
    assert (told.exit_code, words in told.output) == (2, True), told.output


def test_a_file_that_is_no_model_is_told_before_a_broker_is_looked_for(folder: Path) -> None:
    told = CliRunner().invoke(model, ["publish", "m", str(folder / "broken.onnx"), "--bootstrap=127.0.0.1:1"])
    assert (told.exit_code, "no ONNX model" in told.output) == (2, True), told.output


@pytest.mark.parametrize(
    ("name", "request_", "words"),
    [
        ("m", '{"inputs": [], "outputs": [{}]}', "name"),
        ("m", '{"inputs": [], "outputs": 3}', "outputs"),
        ("m", '{"inputs": 5}', "inputs"),
        ("m", '{"inputs": ' + "[" * 99_999, "wanted is JSON"),
        ("a/b", '{"inputs": []}', "no slash"),
    ],
)
def test_a_question_that_is_none_is_a_wrong_call(name: str, request_: str, words: str) -> None:
    told = CliRunner().invoke(model, ["ask", name, "-", "--json", "--server=http://127.0.0.1:abc"], input=request_)
    assert (told.exit_code, words in told.output) == (2, True), told.output


@pytest.mark.parametrize("url", ["http://127.0.0.1:abc", "http://127.0.0.1:99999", "http://[::1"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    told = CliRunner().invoke(model, ["ask", "m", "-", f"--server={url}"], input='{"inputs": []}')
    assert (told.exit_code, "is no address" in told.output) == (1, True), told.output


@pytest.mark.parametrize("region", ["", "a/b", "a b"])
def test_a_region_that_cannot_be_one_is_a_wrong_call(region: str, folder: Path) -> None:
    told = CliRunner().invoke(model, ["publish", "m", str(folder / "digits.onnx"), f"--for-region={region}"])
    assert (told.exit_code, "region" in told.output) == (2, True), told.output


def test_a_new_store_of_a_region_that_had_one_begins_a_life_above_it(tmp_path: Path) -> None:
    place = tmp_path / "models.sqlite"
    store = SqliteStore(place)
    before = Replica(PUBLISHER, store)
    before.apply([RegionEntry(region=PUBLISHER, epoch=5_000, contiguous=3, centre_ms=6_000)], 1, 10_000)
    assert before.fenced
    store.close()
    begin_life(place, 9_000)
    store = SqliteStore(place)
    after = Replica(PUBLISHER, store)
    assert not after.fenced and after.must_join and after.join(9_001).epoch > 5_000
    store.close()


def test_a_broker_that_is_away_is_told_before_anything_is_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise BrokerUnavailableError("127.0.0.1:1", OSError("nobody"))

    monkeypatch.setattr("thalweg.cli.model_command.ensure_topics", away)
    monkeypatch.setenv("THALWEG_STATE", str(folder / "state"))
    told = CliRunner().invoke(model, ["publish", "m", str(folder / "digits.onnx"), "--bootstrap=127.0.0.1:1"])
    assert (told.exit_code, "127.0.0.1:1" in told.output) == (1, True), told.output
    assert not list(folder.rglob("models.sqlite"))


class _Known:
    """A replica that has joined in an earlier life, and reads what others wrote since while it is looked at."""

    def __init__(self, *_: Any) -> None:
        self.behind: int | None = 3

    def __enter__(self) -> "_Known":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def lag(self) -> ReplicaLag:
        self.behind = None if self.behind == 3 else 1 if self.behind is None else 0
        return ReplicaLag(
            joined=True, waiting=0, behind=self.behind, heard_ms_ago=0, clock_offset_ms=0, digests_agree=None,
            fenced=False, trouble=None,
        )  # fmt: skip

    def keys(self, prefix: str = "") -> list[str]:
        return []

    def read(self, key: str) -> Any:
        if key != wish_key("m") or self.behind != 0:
            return None
        return value_of(RolloutWish(wish="w", op="start", version="2", sha256="0" * 64))

    def put(self, *_: Any) -> None:
        """Nobody reads it."""

    def wait_confirmed(self, timeout_s: float) -> bool:
        return True


def test_the_next_number_follows_from_all_that_was_written_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thalweg.cli.model_command.ReplicaClient", _Known)
    monkeypatch.setattr("thalweg.cli.model_command.ensure_topics", lambda *_: None)
    monkeypatch.setenv("THALWEG_STATE", str(folder / "another"))
    call = ["publish", "m", str(folder / "digits.onnx"), "--for-rollout", "--bootstrap=h:1", "--json"]
    told = CliRunner().invoke(model, [*call, f"--set=federate.payloads={folder / 'payloads'}"])
    assert (told.exit_code, json.loads(told.output)["version"]) == (0, 3), told.output
