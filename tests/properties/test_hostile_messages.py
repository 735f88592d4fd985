"""Whatever stands on a state topic, the batch goes on: it is merged, parked or refused with a reason, never raised."""

import json
from typing import Any

import hypothesis.strategies as st
import msgspec
import pyarrow as pa
from hypothesis import given, settings

from thalweg.streams.contract.state_messages import StateInput, StateRefusedError, encode_batch, read_state
from thalweg.streams.contract.topics import STATE, topic_name
from thalweg.streams.replication.replica_log import read_entry, write_entry
from thalweg.sync.centre.centre import Centre
from thalweg.sync.delta.contracts import CONFLICTS, SYNC_GAPS, SYNC_REGIONS
from thalweg.sync.protocol.changes import Add, Assign, Delete, Increment, Raise
from thalweg.sync.protocol.entries import RegionEntry
from thalweg.sync.protocol.records import encode_record
from thalweg.sync.replica.memory_store import MemoryStore
from thalweg.sync.replica.replica import Replica
from thalweg.sync.tables.centre_row import CentreRow
from thalweg.sync.tables.replicate_tables import conflict_row, counted, gap_row, record_rows, region_row

NOW = 1_700_000_000_000
POLICIES = {"": {"m": "max", "n": "counter", "s": "add_wins_set", "l": "min"}}

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=3),
    st.sampled_from(["eu", "us", "last_writer:f", "max:m", "delete", f"eu@{NOW}", f"us@{NOW}"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["f", "m", "n", "s", "l", "", "é"]), inner, max_size=3),
    ),
    max_leaves=6,
)
PLAIN = st.fixed_dictionaries(
    {"value": VALUES},
    optional={
        "key": st.sampled_from(["k", "", "\0x", "ключ", "k" * 2_000]) | SCALARS,
        "version": SCALARS,
        "observed_at": SCALARS | st.integers(NOW - 10**6, NOW + 10**9),
        "stamp": VALUES
        | st.fixed_dictionaries({"ms": st.integers(0, NOW)}, optional={"counter": SCALARS, "region": SCALARS}),
        "policies": VALUES
        | st.dictionaries(st.sampled_from(["f", "m"]), st.sampled_from(["max", "counter", "add_wins_set"])),
        "shoe_size": VALUES,
    },
)


def honest_batch() -> list[Any]:
    """What a region sends that does everything right, as parsed JSON."""
    replica = Replica("eu", MemoryStore())
    join = replica.join(NOW)
    replica.apply([RegionEntry(region="eu", epoch=join.epoch, contiguous=0, centre_ms=NOW)], 1, NOW)
    for change in (
        Assign("f", {"deep": [1]}),
        Raise("m", 3),
        Increment("n", 2),
        Add("s", ("p",)),
        Delete(),
        Add("s", ("q",)),
    ):
        replica.write("k", (change,), NOW)
    sent = [join, *replica.outgoing(), replica.heartbeat(NOW), replica.leave()]
    found: list[Any] = msgspec.json.decode(encode_batch(sent))["batch"]
    return found


HONEST = honest_batch()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, item in inner for place in places(item, (*path, name)))]


def spoilt(batch: list[Any], path: tuple[Any, ...], what: Any, leave_out: bool) -> list[Any]:
    """The batch with another value at one place, or nothing there."""
    copy = json.loads(json.dumps(batch))
    at = copy
    for name in path[:-1]:
        at = at[name]
    if leave_out and isinstance(at, dict):
        del at[path[-1]]
    else:
        at[path[-1]] = what
    return copy  # type: ignore[no-any-return]


def take(values: list[bytes | None]) -> tuple[Centre, int]:
    """Let a centre take records one batch each, and make everything that would be written."""
    centre, unreadable = Centre(max_parked=2), 0
    row = CentreRow()
    topic = topic_name(STATE, "t", "eu")
    for offset, value in enumerate(values):
        record = StateInput(topic=topic, partition=0, offset=offset, timestamp_ms=NOW, key=b"k", value=value)
        try:
            messages = read_state(record, "t", POLICIES)
        except StateRefusedError as error:
            assert str(error)
            unreadable += 1
            continue
        out = centre.merge_batch(messages, NOW)
        assert all(refusal.reason for refusal in out.refused)
        for entry in (*out.entries, centre.digest_entry()):
            written = write_entry(entry)
            assert read_entry(written.key, written.value, written.headers) == entry
        centre.published(offset + 1)
        encoded = {key: encode_record(found) for key, found in out.records.items()}
        record_rows(out.records, centre.recents, encoded, NOW)
        pa.Table.from_pylist([conflict_row(found, 1) for found in out.conflicts], CONFLICTS.schema)
        pa.Table.from_pylist([gap_row(gap) for gap in out.gaps], SYNC_GAPS.schema)
        row = counted(row, out, ())
        pa.Table.from_pylist([region_row(life, row, offset) for life in centre.regions.values()], SYNC_REGIONS.schema)
    return centre, unreadable


def good(number: int) -> bytes:
    return json.dumps({"key": "after", "value": {"f": number}, "observed_at": NOW}).encode()


@settings(deadline=None, max_examples=1500)
@given(st.lists(PLAIN, min_size=1, max_size=4))
def test_plain_messages_of_any_shape(messages: list[Any]) -> None:
    centre, _ = take([*(json.dumps(message).encode() for message in messages), good(7)])
    assert centre.records["after"].last["f"].value == 7


@settings(deadline=None, max_examples=600)
@given(st.sampled_from([place for place in places(HONEST) if place]), VALUES, st.booleans())
def test_a_replicas_batch_with_one_place_spoilt(path: tuple[Any, ...], what: Any, leave_out: bool) -> None:
    values = [json.dumps({"batch": [message]}).encode() for message in spoilt(HONEST, path, what, leave_out)]
    centre, _ = take([*values, good(7)])
    assert centre.records["after"].last["f"].value == 7


@given(st.binary(max_size=40))
def test_any_bytes(raw: bytes) -> None:
    centre, _ = take([raw, None, good(7)])
    assert centre.records["after"].last["f"].value == 7


def test_nesting_of_any_depth() -> None:
    values = [b'{"key": "k", "value": {"f": ' + b"[" * depth + b"]" * depth + b"}}" for depth in (60, 70, 900, 100_000)]
    centre, unreadable = take([*values, good(7)])
    assert centre.records["after"].last["f"].value == 7
    assert unreadable >= 1 and centre.records["k"].vector == {"eu@0": 1}
