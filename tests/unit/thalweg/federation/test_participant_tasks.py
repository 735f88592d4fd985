"""Participants as tasks: each asks for the region of its data, and what cannot be one is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.client.client import checked_request
from thalweg.federation.participant_tasks import ParticipantError, names_of, participant_tasks
from thalweg.learning.rounds.asked import asked_name, not_of

COMMAND = ["thalweg", "federate", "take-part", "digits"]
BERN = {"name": "bern", "command": COMMAND, "data": [{"region": "bern", "size_gb": 3}]}


def test_a_participant_asks_for_the_region_of_its_data_and_keeps_what_else_it_says() -> None:
    (task,) = participant_tasks("digits", [BERN | {"per_worker": {"cpus": 1}, "tenant": "clinic"}])
    assert task["task_id"] == "federated/digits/bern"
    assert (task["kind"], task["name"], task["allowed_regions"]) == ("federated", "digits", ["bern"])
    assert (task["per_worker"], task["tenant"], task["data"]) == ({"cpus": 1}, "clinic", BERN["data"])
    checked, _ = checked_request(task, "submit")
    assert checked.kind == "federated"


def test_where_it_may_run_is_what_is_said_where_that_is_said() -> None:
    (task,) = participant_tasks("digits", [BERN | {"allowed_regions": ["bern", "oslo"]}])
    assert task["allowed_regions"] == ["bern", "oslo"]


def test_an_array_takes_part_element_by_element() -> None:
    tasks = participant_tasks("digits", [BERN | {"array": {"count": 2}}, BERN | {"name": "oslo"}])
    assert names_of(tasks) == ["federated/digits/bern[0]", "federated/digits/bern[1]", "federated/digits/oslo"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": ""}, "name ''"),
        ({"name": "a/b"}, "without slashes"),
        ({"task_id": "t"}, "follows from the name"),
        ({"kind": "train"}, "allowed is federated"),
        ({"command": None}, "take-part, digits"),
        ({"replicas": 2}, "one process"),
        ({"subtasks": [{"subtask_id": "s"}]}, "one process"),
        ({"array": 3}, "array 3"),
        ({"data": []}, "data name no region"),
        ({"data": [{"dataset": "d"}]}, "data name no region"),
        ({"data": [{"region": "a"}, {"dataset": "d"}]}, "data name a:"),
        ({"data": [{"region": "a"}, {"region": "b"}]}, "data name a, b"),
    ],
)
def test_what_is_no_participant_is_refused_with_its_number(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ParticipantError, match=r"participant 2: ") as refused:
        participant_tasks("digits", [BERN, BERN | {"name": "second"} | fields])
    assert words in str(refused.value)


def test_a_name_stands_for_one_participant() -> None:
    with pytest.raises(ParticipantError, match="'bern' stands before"):
        participant_tasks("digits", [BERN, BERN])


WORDS = st.text(st.sampled_from("ab/"), max_size=4)


@given(WORDS, WORDS, WORDS)
def test_no_name_is_of_two_runs(one: str, other: str, participant: str) -> None:
    name = asked_name(one, participant)
    assert one == other or not (not_of(one, [name]) == "" and not_of(other, [name]) == "")
