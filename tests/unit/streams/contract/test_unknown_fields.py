"""Fields of a request that nobody reads are found wherever they stand, with the name that was probably meant."""

import pytest

from thalweg.streams.contract.messages import MESSAGES, TaskRequest
from thalweg.streams.contract.unknown_fields import unknown_fields


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"gpus": 8}, "unknown field 'gpus' (is 'per_worker.gpus' meant?)"),
        ({"per_worker": {"gpu": 8}}, "unknown field 'per_worker.gpu' (is 'per_worker.gpus' meant?)"),
        ({"per_worker": {"workers": 8}}, "unknown field 'per_worker.workers' (is 'workers' meant?)"),
        ({"perWorker": {"gpus": 8}}, "unknown field 'perWorker' (is 'per_worker' meant?)"),
        ({"priorty": 1}, "unknown field 'priorty' (is 'priority' meant?)"),
        ({"data": [{"region": "r"}, {"gb": 3}]}, "unknown field 'data[1].gb'"),
        ({"data": [{"sizegb": 3}]}, "unknown field 'data[0].sizegb' (is 'data[0].size_gb' meant?)"),
        ({"subtasks": [{"subtask_id": "s", "per_worker": {"cpu": 1}}]},
         "unknown field 'subtasks[0].per_worker.cpu' (is 'subtasks[0].per_worker.cpus' meant?)"),
        ({"stamp": {"ms": 1, "sequence": 2}}, "unknown field 'stamp.sequence'"),
        ({"depends_on": ["a"]}, "unknown field 'depends_on'"),
        ({"": 1}, "unknown field ''"),
    ],
)  # fmt: skip
def test_an_unknown_field_is_named_with_its_nearest(content: dict[str, object], words: str) -> None:
    (found,) = unknown_fields({"task_id": "t"} | content, TaskRequest)
    assert str(found) == words


def test_several_are_named_in_order_and_known_ones_are_not() -> None:
    content = {"task_id": "t", "tries": 3, "per_worker": {"gpus": 1, "vram": 2}, "labels": {"gpus": 1}, "data": 7}
    assert [found.path for found in unknown_fields(content, TaskRequest)] == ["tries", "per_worker.vram", "labels"]


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_every_message_can_be_looked_at(message: type) -> None:
    assert [found.path for found in unknown_fields({"zzz": 1}, message)] == ["zzz"]
