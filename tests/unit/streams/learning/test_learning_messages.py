"""Messages of learning: what is written is read back; payloads are what their names say, or are not there."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from thalweg.learning.privacy.terms import PrivacyTerms
from thalweg.learning.rounds.run_spec import RunSpec
from thalweg.learning.vectors.parameters import digest
from thalweg.streams.broker.consume import IncomingRecord
from thalweg.streams.contract.decode import UndecodableError
from thalweg.streams.contract.messages import LearningRun, ModelUpdate
from thalweg.streams.contract.topics import UPDATES, topic_name
from thalweg.streams.learning.payloads import PayloadError, PayloadStore
from thalweg.streams.learning.updates import OPERATORS, payload_of, read_update, run_of, spec_of, write_update

TERMS = PrivacyTerms(clip_norm=1.0, noise_multiplier=1.5, sample_rate=0.1, delta=1e-5, budget_epsilon=3.0)


@pytest.mark.parametrize("privacy", [None, TERMS])
def test_what_a_run_is_told_is_read_back(privacy: PrivacyTerms | None) -> None:
    spec = RunSpec(parameters=7, rounds=3, quorum=2, begin_with=4, codec="delta", seed=9, signed=True, privacy=privacy)
    sent = msgspec.json.decode(msgspec.json.encode(run_of(spec)), type=LearningRun)
    assert spec_of(sent) == spec


def record(message: ModelUpdate, region: str = "aws:eu-west-1") -> IncomingRecord:
    out = write_update(message, "t", region, 5)
    return IncomingRecord(
        topic=out.topic,
        partition=0,
        offset=3,
        timestamp_ms=77,
        key=out.key,
        value=out.value,
        headers=tuple(out.headers),
    )


def test_an_update_is_read_with_the_place_and_time_of_its_record() -> None:
    raw = b"\x00\xff" * 50
    message = ModelUpdate(
        kind="update", model="m", participant="p", round=2, version=1, samples=9, metrics={"loss": 0.5},
        payload=payload_of(raw, digest(raw), 1_000), signature="AQ==",
    )  # fmt: skip
    said = read_update(record(message), "t", lambda name: None)
    assert (said.region, said.at_ms, said.payload, said.samples) == ("aws:eu-west-1", 77, raw, 9)
    assert said.place is not None and said.place.offset == 3
    by_name = replace_payload(message, raw)
    assert read_update(record(by_name), "t", lambda name: raw if name == digest(raw) else None).payload == raw
    assert read_update(record(by_name), "t", lambda name: None).payload is None
    assert read_update(record(message, OPERATORS), "t", lambda name: None).region == ""


def replace_payload(message: ModelUpdate, raw: bytes) -> ModelUpdate:
    return msgspec.structs.replace(message, payload=payload_of(raw, digest(raw), 10))


def test_what_is_no_update_is_refused_in_words() -> None:
    broken = replace(record(ModelUpdate(kind="stop", model="m")), value=b'{"kind": "dance", "model": "m"}')
    assert broken.topic == topic_name(UPDATES, "t", "aws:eu-west-1")
    with pytest.raises(UndecodableError, match="dance"):
        read_update(broken, "t", lambda name: None)


def test_a_payload_is_what_its_name_says_or_is_not_there(tmp_path: Path) -> None:
    for place in (str(tmp_path / "folder"), f"file://{tmp_path / 'uri'}"):
        (tmp_path / "uri").mkdir(exist_ok=True)
        store = PayloadStore(place)
        raw = b"numbers"
        name = digest(raw)
        with pytest.raises(PayloadError, match="is not in"):
            store.get(name)
        if "://" in place:
            (tmp_path / "uri" / name[:2]).mkdir()
        store.put([raw, raw])
        assert PayloadStore(place).get(name) == raw
        store.drop([name, name])
        with pytest.raises(PayloadError, match="is not in"):
            store.get(name)
    with pytest.raises(PayloadError, match="is no digest"):
        store.get("../../etc/passwd")
    folder = PayloadStore(str(tmp_path / "folder"))
    folder.put([raw])
    next((tmp_path / "folder").rglob(name)).write_bytes(b"changed")
    with pytest.raises(PayloadError, match="holds something else"):
        folder.get(name)


def test_a_number_that_json_cannot_write_is_not_sent_as_nothing() -> None:
    spec = RunSpec(parameters=7, rounds=3)
    run = msgspec.structs.replace(run_of(spec), liars=float("nan"))
    with pytest.raises(ValueError, match=r"run\.liars nan: allowed are finite numbers"):
        write_update(ModelUpdate(kind="start", model="m", run=run), "t", OPERATORS, 5)
