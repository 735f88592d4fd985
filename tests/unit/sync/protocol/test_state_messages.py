"""What may stand on `state.<region>`, read from bytes."""

import json

import msgspec
import pytest

from thalweg.streams.contract.state_messages import StateInput, StateRefusedError, encode_batch, read_state
from thalweg.streams.contract.topics import STATE, topic_name
from thalweg.sync.protocol import entries
from thalweg.sync.protocol.changes import Add, Assign, Delete, Raise
from thalweg.sync.protocol.entries import Heartbeat, Join, PlainWrite, RegionEntry, Update
from thalweg.sync.protocol.policies import MergePolicy

NOW = 1_700_000_000_000
POLICIES = {"dataset/": {"copies": "add_wins_set"}, "dataset/x": {"copies": "last_writer"}}


def record(value: object, *, key: bytes | None = None, offset: int = 4, region: str = "aws:us-east-1") -> StateInput:
    raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return StateInput(
        topic=topic_name(STATE, "t", region), partition=0, offset=offset, timestamp_ms=NOW, key=key, value=raw
    )


def read_one(value: object, **options: object) -> PlainWrite:
    [message] = read_state(record(value, **options), "t", POLICIES)  # type: ignore[arg-type]
    assert isinstance(message, PlainWrite)
    return message


def test_a_key_and_a_value_are_enough() -> None:
    write = read_one({"key": "k", "value": {"f": 1}})
    assert (write.key, write.changes) == ("k", (Assign("f", 1),))
    assert (write.stamp.ms, write.stamp.region, write.stamp.seq) == (NOW, "aws:us-east-1", 5)


def test_the_pair_completes_the_stamp_and_the_kafka_key_the_key() -> None:
    write = read_one({"value": 1, "observed_at": "2026-11-21T10:00:00Z", "version": 7}, key="ключ".encode())
    assert write.key == "ключ" and write.stamp.counter == write.stamp.version == 7
    assert read_one({"value": 1, "stamp": {"ms": 5, "counter": 6}, "key": "k"}).stamp.hlc == (5, 6, "aws:us-east-1")


def test_null_deletes() -> None:
    assert read_one({"key": "k", "value": None}).changes == (Delete(),)
    assert read_one(None, key=b"k").changes == (Delete(),)


def test_the_longest_prefix_gives_the_policies_and_the_message_has_the_last_word() -> None:
    assert read_one({"key": "dataset/a", "value": {"copies": ["eu"]}}).changes == (Add("copies", ("eu",)),)
    assert read_one({"key": "dataset/x", "value": {"copies": ["eu"]}}).changes == (Assign("copies", ["eu"]),)
    said = {"key": "dataset/a", "value": {"copies": 3}, "policies": {"copies": MergePolicy.MAX.value}}
    assert read_one(said).changes == (Raise("copies", 3),)


def test_a_field_that_nobody_knows_is_no_reason_to_refuse() -> None:
    assert read_one({"key": "k", "value": 1, "shoe_size": 43}).changes == (Assign("value", 1),)


def test_a_batch_keeps_its_order() -> None:
    batch = [
        Join(region="eu", epoch=NOW, at_ms=NOW),
        Heartbeat(region="eu", epoch=NOW, position=1, last_seq=0, sent_seq=0, at_ms=NOW),
    ]
    assert read_state(record(encode_batch(batch), region="eu"), "t", {}) == batch


def test_what_an_older_side_does_not_send_means_what_it_meant() -> None:
    """Defaults are left out on the wire: each is part of the format, for versions that meet each other."""
    meant: dict[type[msgspec.Struct], dict[str, object]] = {
        Update: {"deletes": False, "opening": None},
        Heartbeat: {
            "waiting": 0, "agrees": None, "compared_at": 0, "openings": (), "topic": "", "opened_at": 0,
            "opened_in": "",
        },
        Join: {"position": None, "topic": ""},
        RegionEntry: {
            "missing": (), "member": True, "clock": None, "newest": 0, "openings": (), "replaced": (),
            "refused_from": 0, "copied": False,
        },
    }  # fmt: skip
    named = vars(entries).values()
    messages = [one for one in named if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    own = [one for one in messages if one.__module__ == entries.__name__ and one.__struct_config__.omit_defaults]
    assert {
        one: {field.name: field.default for field in msgspec.structs.fields(one) if not field.required} for one in own
    } == meant


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (b"\xff", "malformed|invalid|trailing"),
        (b"[]", "object"),
        ({"temperature": 21}, "value"),
        ({"key": "k", "value": 1, "observed_at": "2026-01-01T00:00:00"}, "time zone"),
        ({"key": "k", "value": 1, "observed_at": -1}, "observed_at"),
        ({"key": "k", "value": 1, "version": -1}, "version"),
        ({"key": "k", "value": 1, "stamp": {"counter": 1}}, "ms"),
        ({"key": "k", "value": 1, "stamp": {"ms": 1, "region": "eu"}}, "own topic"),
        ({"key": "", "value": 1}, "0 bytes"),
        ({"key": "\0x", "value": 1}, "reserved"),
        (b'{"key": "\\ud800", "value": 1}', "."),
        ({"key": "k", "value": {"copies": "eu"}, "policies": {"copies": "add_wins_set"}}, "add-wins"),
        ({"key": "k", "value": 1, "policies": {"f": "loudest"}}, "policies"),
        ({"key": "k", "value": "x" * 950_000}, "bytes"),
        ({"batch": [{"kind": "join", "region": "eu", "epoch": NOW, "at_ms": 1}]}, "own topic"),
        ({"batch": [{"kind": "join", "region": "aws:us-east-1", "epoch": 5, "at_ms": 1}]}, "no store"),
        ({"batch": [{"kind": "shout"}]}, "kind"),
        (
            {
                "batch": [
                    {
                        "kind": "plain",
                        "key": "k",
                        "changes": [],
                        "stamp": {"ms": 1, "counter": 0, "region": "aws:us-east-1"},
                    }
                ]
            },
            "plain",
        ),
        ({"batch": [{"kind": "repair", "region": "aws:us-east-1", "epoch": 1, "buckets": [256]}]}, "buckets"),
        ({"key": "k", "value": 1, "observed_at": 1_795_933_582}, "observed_at 1795933582 is a moment of January 1970"),
        ({"key": "k", "value": 1, "stamp": {"ms": 1_795_933_582}}, "stamp.ms 1795933582 is a moment of January 1970"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(value: object, word: str) -> None:
    with pytest.raises(StateRefusedError, match=word):
        read_state(record(value), "t", POLICIES)
