"""A server's versions: what is wanted takes over when it has been tried; what does not fit is refused, and why."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.thalweg.serving.models import model, question, spec, version
from thalweg.serving.kept_model import KeptModel
from thalweg.serving.model_server import ModelServer, NothingServesError, TooBusyError, WrongVersionError
from thalweg.serving.tensors import InferRequest, RequestTensor, TensorError
from thalweg.serving.version_record import ModelVersion
from thalweg.streams.learning.payloads import PayloadError, PayloadStore

ONE, TWO, WIDE = model(1), model(2), model(3, inputs=5)


class Stage:
    """A server, a store, and a disk."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.store = PayloadStore(str(folder / "payloads"))
        self.store.put([ONE, TWO, WIDE, b"no model"])
        self.kept = KeptModel(folder / "kept")
        self.server = ModelServer("m", self.kept, timer=iter(range(10**9)).__next__, **options)

    def serve(self, wanted: ModelVersion) -> bool:
        self.server.want(wanted)
        return self.server.load(self.store.get)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def asked(values: list[float] | None = None, **fields: Any) -> InferRequest:
    return InferRequest(inputs=[RequestTensor(**question(values))], **fields)


def label(answer: bytes) -> tuple[str, int]:
    told = msgspec.json.decode(answer)
    return told["model_version"], {one["name"]: one for one in told["outputs"]}["label"]["data"][0]


def test_nothing_answers_before_there_is_a_version(stage: Stage) -> None:
    with pytest.raises(NothingServesError, match="no version of m has been declared"):
        stage.server.answer(asked())
    stage.server.want(version(1, ONE))
    with pytest.raises(NothingServesError, match="version 1 of m is on its way"):
        stage.server.answer(asked())


def test_what_is_wanted_takes_over_and_is_kept(stage: Stage) -> None:
    assert stage.serve(version(1, ONE))
    assert label(stage.server.answer(asked())) == ("1", 1)
    assert stage.serve(version(2, TWO))
    assert label(stage.server.answer(asked())) == ("2", 2)
    assert stage.kept.newest() == (version(2, TWO), TWO)
    assert stage.server.told()["swaps"] == 1
    assert not stage.serve(version(2, TWO)), "what serves is not loaded again"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (version(2, WIDE), r"asks for x FP32\[-1, 5\]; declared is x FP32\[-1, 3\]"),
        (version(2, TWO, inputs=(spec(5),)), r"asks for x FP32\[-1, 3\]; declared is x FP32\[-1, 5\]"),
        (version(2, b"no model"), "no ONNX model that can be loaded"),
        (version(2, TWO, sha256="0" * 64), "declared are"),
        (version(2, TWO, size_bytes=7), "declared are"),
    ],
    ids=["inputs", "declared inputs", "no model", "digest", "size"],
)
def test_what_does_not_fit_is_refused_and_what_serves_goes_on(stage: Stage, wanted: ModelVersion, words: str) -> None:
    stage.serve(version(1, ONE))
    assert not stage.serve(wanted)
    assert label(stage.server.answer(asked())) == ("1", 1)
    assert stage.kept.newest() == (version(1, ONE), ONE)
    assert re.search(words, stage.server.trouble), stage.server.trouble
    assert not stage.server.want(wanted), "it would be tried for ever"
    assert stage.serve(version(3, TWO)) and not stage.server.trouble


def test_a_version_that_is_not_in_the_store_is_worth_another_try(stage: Stage) -> None:
    late = model(5)
    stage.serve(version(1, ONE))
    with pytest.raises(PayloadError, match="is not in"):
        stage.serve(version(2, late))
    stage.store.put([late])
    assert stage.server.load(stage.store.get)
    assert label(stage.server.answer(asked())) == ("2", 5)


def test_a_server_that_starts_again_without_store_and_broker_serves_what_served_last(tmp_path: Path) -> None:
    before = Stage(tmp_path)
    before.serve(version(1, ONE))
    before.serve(version(2, TWO))
    after = Stage(tmp_path)
    assert after.server.take_up() == version(2, TWO)
    assert label(after.server.answer(asked())) == ("2", 2)
    assert not after.server.want(version(2, TWO)), "what is declared is what serves"


def test_what_a_request_does_not_say_rightly_is_refused(stage: Stage) -> None:
    stage.serve(version(1, ONE))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"inputs": []}, r"inputs \[\]: allowed are \['x'\]"),
        ({"inputs": [question(), question()]}, "each once"),
        ({"inputs": [question() | {"name": "z"}]}, r"inputs \['z'\]"),
        ({"inputs": [question() | {"datatype": "FP64"}]}, "allowed is FP32"),
        ({"inputs": [question() | {"shape": [3]}]}, r"allowed is \[-1, 3\]"),
        ({"inputs": [question() | {"shape": [3, 1]}]}, r"allowed is \[-1, 3\]"),
        ({"inputs": [question()], "outputs": [{"name": "colour"}]}, "output 'colour'"),
    ]
    for request, words in wrong:
        with pytest.raises(TensorError, match=words):
            stage.server.answer(msgspec.convert(request, InferRequest))
    assert (stage.server.told()["refused"], stage.server.told()["in_flight"]) == (len(wrong), 0)


def test_a_repeated_question_is_answered_from_what_was_said_and_by_the_version_that_serves(tmp_path: Path) -> None:
    stage = Stage(tmp_path, cache_bytes=100_000)
    stage.serve(version(1, ONE))
    first = [stage.server.answer(asked([1, 2, 3])) for _ in range(3)]
    assert len(set(first)) == 1
    assert stage.server.told()["repeated"] == 2
    stage.serve(version(2, TWO))
    assert label(stage.server.answer(asked([1, 2, 3]))) == ("2", 2)
    assert stage.server.told()["repeated"] == 2
    assert msgspec.json.decode(stage.server.answer(asked([1, 2, 3], id="mine")))["id"] == "mine"


def test_more_requests_than_allowed_at_once_are_turned_away(tmp_path: Path) -> None:
    stage = Stage(tmp_path, most_in_flight=1)
    stage.serve(version(1, ONE))
    with stage.server.admitted():
        assert stage.server.told()["in_flight"] == 1
        with pytest.raises(TooBusyError, match="1 request under way"), stage.server.admitted():
            raise AssertionError("not to be reached")
        assert label(stage.server.answer(asked())) == ("1", 1)
    with stage.server.admitted():
        assert stage.server.told()["shed"] == 1


def test_a_request_ends_on_the_version_it_began_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.serve(version(1, ONE))
    serving = stage.server.serving
    assert serving is not None
    infer = serving.infer

    def meanwhile(*arguments: Any) -> Any:
        assert stage.serve(version(2, TWO))
        assert label(stage.server.answer(asked())) == ("2", 2)
        return infer(*arguments)

    monkeypatch.setattr(serving, "infer", meanwhile)
    assert label(stage.server.answer(asked())) == ("1", 1)
    assert list(stage.server._loaded) == [version(2, TWO)], "the old version stays in memory"


def test_a_version_may_be_asked_for_by_its_number(stage: Stage) -> None:
    stage.serve(version(3, ONE))
    assert label(stage.server.answer(asked(), 3)) == ("3", 1)
    with pytest.raises(WrongVersionError, match="version 2 is asked for; version 3 serves"):
        stage.server.answer(asked(), 2)
