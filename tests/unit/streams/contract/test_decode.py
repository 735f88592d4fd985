"""Whatever the bytes are, a message is read or refused: no error of a decoder goes further than that."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.streams.contract.decode import DEEPEST, UndecodableError, check_depth, decoded
from thalweg.streams.contract.messages import AssignmentEvent, StatusEvent, TaskRequest, TelemetryRecord
from thalweg.streams.placement.requests import RequestError, content_hash, read_request
from thalweg.streams.placement.task_specs import read_spec

DECODERS = [msgspec.json.Decoder(kind) for kind in (TaskRequest, StatusEvent, AssignmentEvent, TelemetryRecord)]

UNREADABLE = {
    "a number beyond a double": b"1e400",
    "a number of 5,000 digits": b"9" * 5_000,
    "no number": b"NaN",
    "half a surrogate pair": b'"\\ud800"',
    "two first halves": b'"\\ud800\\ud800"',
    "bytes that are no text": b'"\xff"',
    "nesting of 65 levels": b"[" * DEEPEST + b"]" * DEEPEST,
    "nesting of 1,100 levels": b"[" * 1_100 + b"]" * 1_100,
    "nesting of 100,000 levels": b"[" * 100_000 + b"]" * 100_000,
    "nesting without an end": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE.keys())
@pytest.mark.parametrize("field", ["loss", "expected_s", "command", "priority", "stamp"])
def test_a_request_with_such_a_value_anywhere_is_refused_with_words(field: str, value: bytes) -> None:
    raw = b'{"task_id":"x","%s":%s}' % (field.encode(), value)
    with pytest.raises((RequestError, UnicodeDecodeError), match=r"\w"):
        read_request(raw)
        content_hash(raw)
        raw.decode()


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_bytes_make_a_decoder_raise_anything_else(raw: bytes) -> None:
    for decoder in DECODERS:
        try:
            decoded(decoder, raw)
        except UndecodableError as error:
            assert str(error)


def test_a_record_without_a_value_is_refused_too() -> None:
    with pytest.raises(UndecodableError, match="tombstone"):
        decoded(DECODERS[0], None)


@given(st.recursive(st.none() | st.text(max_size=3), lambda inner: st.lists(inner, min_size=1, max_size=2)))
def test_depth_is_what_brackets_outside_of_texts_say(value: object) -> None:
    deep = value
    for _ in range(DEEPEST - 1):
        deep = {"[{": [deep]} if isinstance(deep, list) else [deep]

    def depth(inside: object) -> int:
        found = inside.values() if isinstance(inside, dict) else inside if isinstance(inside, list) else ()
        return 1 + max(map(depth, found), default=0) if isinstance(inside, dict | list) else 0

    if depth(deep) > DEEPEST:
        with pytest.raises(UndecodableError, match="deeper than 64 levels"):
            check_depth(json.dumps(deep))
    else:
        check_depth(json.dumps(deep))


def test_many_brackets_side_by_side_or_in_texts_are_not_deep() -> None:
    raw = json.dumps({"task_id": "x", "wide": [[[]]] * 1_000, "text": "[" * 1_000 + '"\\' + "{" * 1_000})
    assert read_request(raw).task_id == "x"
    assert read_spec(raw).replicas == 1
    assert content_hash(raw)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (rb'{"command": ["a", "\ud83d"]}', r"a lone surrogate, \ud83d, at byte 19, in command[1]"),
        (rb'{"env": {"A": "x\udc00"}}', r"a lone surrogate, \udc00, at byte 16, in env.A"),
        (rb'{"env": {"A": "\ud83dx"}}', r"a lone surrogate, \ud83d, at byte 15, in env.A"),
        (rb'{"env": {"A": "\ud83d\ud83d\ude00"}}', r"a lone surrogate, \ud83d, at byte 15, in env.A"),
        (rb'{"env": {"A": "\\\ud83d\n"}}', r"a lone surrogate, \ud83d, at byte 17, in env.A"),
        (rb'{"env": {"\ud83d": "x"}}', r"a lone surrogate, \ud83d, at byte 10, in a name within env"),
        (rb'{"a": "\ud83d", ', r"a lone surrogate, \ud83d, at byte 7"),
    ],
)
def test_half_a_character_is_told_as_what_it_is(raw: bytes, words: str) -> None:
    decoder = msgspec.json.Decoder(dict[str, object])
    for given_as in (raw, raw.decode()):
        with pytest.raises(UndecodableError) as refused:
            decoded(decoder, given_as)
        assert str(refused.value) == f"text that is no Unicode: {words}"


def test_whole_characters_are_read_and_other_faults_are_told_as_before() -> None:
    decoder = msgspec.json.Decoder(dict[str, object])
    assert decoded(decoder, rb'{"a": "\ud83d\ude00 \\ud83d"}') == {"a": "\U0001f600 \\ud83d"}
    with pytest.raises(UndecodableError, match="truncated"):
        decoded(decoder, rb'{"a": "\ud83d\ude00 \\ud83d')
