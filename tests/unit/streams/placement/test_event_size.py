"""Whatever is accepted makes an event that fits its topic, on whatever nodes it is placed."""

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.scheduling.world.tasks import Change, Share, Transition
from thalweg.streams.broker.deadletter import RefusedRecord, dead_letter
from thalweg.streams.contract.topics import ASSIGNMENTS, CONTRACTS, DEADLETTER, REQUESTS, contract_of, topic_name
from thalweg.streams.placement.assignments import event_record
from thalweg.streams.placement.event_ids import event_id_of
from thalweg.streams.placement.event_size import event_bytes_by_length, largest_event_bytes, objection
from thalweg.streams.placement.requests import read_request

LONGEST_REGION = "\1" * 60  # 180 bytes in the topic's name
CHARACTERS = st.sampled_from(["n", '"', "\1", "ж", "\U0001f600"])


def assigned(task_id: str, shares: tuple[Share, ...]) -> Transition:
    return Transition(
        change=Change.ASSIGNED,
        task_id=task_id,
        decided_ms=253_402_300_799_999,
        epoch=2**52,
        copy=15,
        region=LONGEST_REGION,
        shares=shares,
        plan_id="p" * 16,
        usd_per_hour=0.1 + 0.2,
        reason="r" * 4_000,
    )


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 8)), min_size=1, max_size=4),
    CHARACTERS,
    CHARACTERS,
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=2_000),
)
def test_no_event_is_larger_than_said(parts: list[tuple[int, int]], name: str, ident: str, command: str) -> None:
    request = {
        "task_id": ident * 256,
        "op": "update",  # a new task's id has no control characters, an old one's may
        "command": ["sh", command],
        "image": command,
        "unknown": "x" * 5_000,
        "subtasks": [
            {"subtask_id": str(n), "workers": workers, "per_worker": {"gpus": gpus}}
            for n, (workers, gpus) in enumerate(parts)
        ],
    }
    shares = tuple(
        Share(node_id=name * 256, workers=1, gpus=gpus, gpu_milli=1_000 * gpus, devices=(1_023,) * gpus)
        for workers, gpus in parts
        for _ in range(workers)
    )
    raw = json.dumps(request)
    row = assigned(ident * 256, shares)
    record = event_record(row, event_id_of(row) or "", raw, "thalweg")
    largest = largest_event_bytes(read_request(raw))
    assert record.size_bytes() <= largest <= event_bytes_by_length(read_request(raw), raw)


def test_a_task_of_the_most_workers_and_a_request_as_large_as_its_topic_allows_is_accepted() -> None:
    room = REQUESTS.max_message_bytes - 1_000
    raw = json.dumps({"task_id": "t", "workers": 10_000, "per_worker": {"gpus": 8}, "command": ["x" * room]})
    assert objection(read_request(raw), raw) is None
    assert largest_event_bytes(read_request(raw)) <= ASSIGNMENTS.max_message_bytes


def test_what_might_not_fit_is_refused_with_what_to_do() -> None:
    parts = [{"subtask_id": str(n), "workers": 10_000} for n in range(2)]
    raw = json.dumps({"task_id": "t", "subtasks": parts})
    words = objection(read_request(raw), raw)
    assert re.search(r"may take 3\d,.* bytes.*allowed are 20,971,520\. Ask for fewer workers", words or "")


def test_every_record_that_can_be_refused_fits_among_the_dead_letters() -> None:
    largest = max(contract.max_message_bytes for contract in CONTRACTS if contract is not DEADLETTER)
    for size in (largest, DEADLETTER.max_message_bytes, 3 * DEADLETTER.max_message_bytes):
        refused = RefusedRecord(
            flow="place", rule="request", reason="é" * 5_000, topic="t" * 249, partition=0, offset=2**62,
            key=b"k" * 1_000, value=b"v" * size, received_ms=0,
        )  # fmt: skip
        letter = dead_letter(refused, "thalweg")
        assert letter.size_bytes() <= letter.max_bytes
        assert (letter.value == refused.value) == ("cut-from-bytes" not in dict(letter.headers)) == (size == largest)


def test_a_topic_is_known_by_its_name() -> None:
    for contract in CONTRACTS:
        name = topic_name(contract, "a.b", "eu" if contract.per_region else None)
        assert contract_of(name, "a.b") is contract
    assert contract_of("a.b.requests.more", "a.b") is None
    assert contract_of("other.requests", "a.b") is None
