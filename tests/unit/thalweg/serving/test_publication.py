"""A version is published: bytes first, then the record; numbers rise, and callers are not surprised by other inputs."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.thalweg.serving.models import identity, listing, model
from thalweg.learning.rollout.records import DesiredModel, RolloutWish, ServedVersion, desired_key, value_of, wish_key
from thalweg.learning.vectors.parameters import digest
from thalweg.serving.publication import PublicationError, publish_version, store_version
from thalweg.serving.transfer import fetched
from thalweg.serving.version_record import FIELD, VersionRecordError, read_version, stored_key
from thalweg.streams.learning.payloads import PayloadError, PayloadStore
from thalweg.sync.protocol.changes import Assign, Change

ONE, TWO, THREE, WIDE = model(1), model(2), model(3), model(1, inputs=9)


class Written:
    """Records in memory."""

    def __init__(self, store: PayloadStore) -> None:
        self.store = store
        self.values: dict[str, dict[str, Any]] = {}

    def read(self, key: str) -> dict[str, Any] | None:
        return self.values.get(key)

    def keys(self, prefix: str = "") -> list[str]:
        return [key for key in self.values if key.startswith(prefix)]

    def put(self, key: str, *changes: Change) -> None:
        (change,) = changes
        assert isinstance(change, Assign) and change.field == FIELD
        self.values.setdefault(key, {})[FIELD] = change.value
        for way in read_version(self.values[key]).ways:
            self.store.get(way.sha256)  # whoever reads the record finds the bytes


@pytest.fixture
def records(tmp_path: Path) -> Written:
    return Written(PayloadStore(str(tmp_path)))


def test_numbers_rise_and_bytes_are_there_before_the_record(records: Written) -> None:
    first = publish_version("m", ONE, records, records.store)
    second = publish_version("m", TWO, records, records.store, region="bern")
    assert (first.key, first.version.version, first.before) == ("models/m", 1, 0)
    assert (second.key, second.version.version, second.before) == ("models/m/bern", 2, 1)
    assert read_version(records.values["models/m"]).version == 1, "the region's version is declared for all"
    other = publish_version("m2", ONE, records, records.store, number=9)
    assert publish_version("m", WIDE, records, records.store, other_inputs=True).version.version == 3, other
    third = publish_version("m", ONE, records, records.store, number=7, other_inputs=True)
    assert third.version.version == 7
    assert [way.codec for way in second.version.ways][-1] == "delta"
    kept = {digest(ONE): ONE}
    raw, transferred = fetched(second.version, records.store.get, kept)
    assert (raw, transferred < len(TWO) / 2) == (TWO, True)


@pytest.mark.parametrize(
    ("raw", "fields", "words"),
    [
        (TWO, {"number": 3}, "version 3: version 3 is declared; allowed are numbers above it"),
        (b"no model", {}, "no ONNX model"),
        (WIDE, {}, "other inputs than version 3"),
    ],
)
def test_what_cannot_be_published_leaves_the_record_as_it_was(
    raw: bytes, fields: dict[str, Any], words: str, records: Written
) -> None:
    publish_version("m", ONE, records, records.store, number=3)
    before = dict(records.values["models/m"])
    with pytest.raises(PublicationError, match=words):
        publish_version("m", raw, records, records.store, **fields)
    assert records.values == {"models/m": before}


def test_other_inputs_are_taken_when_it_is_said_that_callers_know(records: Written) -> None:
    publish_version("m", ONE, records, records.store)
    found = publish_version("m", WIDE, records, records.store, other_inputs=True)
    assert (found.version.version, found.version.inputs[0].shape) == (2, (-1, 9))


@pytest.mark.parametrize("key", ["models/m", "models/m/bern"])
def test_numbers_do_not_begin_anew_over_a_record_that_cannot_be_read(key: str, records: Written) -> None:
    records.values[key] = {FIELD: {"version": "one"}}
    for publish in (publish_version, store_version):
        with pytest.raises(PublicationError, match=f"the record {key} cannot be read, so which number comes next"):
            publish("m", ONE, records, records.store)
    assert records.values == {key: {FIELD: {"version": "one"}}}
    assert publish_version("m", ONE, records, records.store, number=8).version.version == 8


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (identity([1], inputs=0), "length"),
        (identity([1, 3], "x" * 300), "length"),
        (identity([1], inputs=65), "length"),
        (identity([1, 2**50]), "values at least; allowed are"),
        (listing(), r"y: the model has seq"),
    ],
)
def test_what_no_server_could_serve_is_not_published(raw: bytes, words: str, records: Written) -> None:
    for publish in (publish_version, store_version):
        with pytest.raises(PublicationError, match=words):
            publish("m", raw, records, records.store)
    assert records.values == {}
    with pytest.raises((PayloadError, OSError)):
        records.store.get(digest(raw))


@pytest.mark.parametrize("region", ["", "a/b", "a b", "a#b", "x" * 181])
def test_a_region_that_cannot_be_one_is_refused(region: str, records: Written) -> None:
    with pytest.raises(VersionRecordError, match="region"):
        publish_version("m", ONE, records, records.store, region=region)
    assert records.values == {}


@pytest.mark.parametrize("name", ["", "a/b", "a\n", "x" * 129])
def test_a_name_that_cannot_be_part_of_a_key_is_refused(name: str, records: Written) -> None:
    with pytest.raises(VersionRecordError, match="no slash"):
        publish_version(name, ONE, records, records.store)


def test_for_a_roll_out_bytes_are_stored_and_nothing_is_declared(records: Written) -> None:
    publish_version("m", ONE, records, records.store)
    before = {key: dict(value) for key, value in records.values.items()}
    stored = store_version("m", TWO, records, records.store)
    assert (stored.version, stored.sha256) == (2, digest(TWO))
    assert records.store.get(stored.sha256) == TWO
    assert read_version(records.values.pop(stored_key("m", stored.sha256))) == stored
    assert records.values == before
    wish = RolloutWish(wish="w", op="start", version="2", sha256=stored.sha256)
    records.values[wish_key("m")] = value_of(wish)
    assert store_version("m", TWO, records, records.store).version == 3, "one number is one version"
    last = ServedVersion(version="7", sha256=digest(ONE))
    records.values[desired_key("m", "e")] = value_of(
        DesiredModel(number=1, serve=last, beside=None, share=0.0, slow_ms=1.0)
    )
    assert store_version("m", TWO, records, records.store).version == 8
    with pytest.raises(PublicationError, match="allowed are numbers above it"):
        store_version("m", TWO, records, records.store, number=7)
    with pytest.raises(PublicationError, match="other inputs than version 1"):
        store_version("m", WIDE, records, records.store)


def test_what_is_stored_twice_and_never_rolled_out_has_two_numbers(records: Written) -> None:
    assert [store_version("m", raw, records, records.store).version for raw in (ONE, TWO)] == [1, 2]


def test_bytes_for_a_roll_out_lie_also_as_what_they_differ_by_from_those_that_most_edges_serve(
    records: Written,
) -> None:
    publish_version("m", THREE, records, records.store)
    records.store.put([ONE, TWO])
    for edge, raw in (("a", ONE), ("b", TWO), ("c", TWO)):
        serve = ServedVersion(version="2", sha256=digest(raw))
        wanted = DesiredModel(number=1, serve=serve, beside=None, share=0.0, slow_ms=1.0)
        records.values[desired_key("m", edge)] = value_of(wanted)
    stored = store_version("m", ONE, records, records.store)
    assert [way.base for way in stored.ways if way.codec == "delta"] == [digest(TWO)]
    assert fetched(stored, records.store.get, {digest(TWO): TWO})[1] < len(ONE) / 2
